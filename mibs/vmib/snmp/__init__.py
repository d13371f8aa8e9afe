"""SNMP on the wire: BER values (`ber`), messages (`message`), user-based security (`usm`).

Pure: octets in, objects out; no socket and no clock.
"""

from .ber import DecodeError, Oid, Value, VarBind
from .message import ErrorStatus, Pdu, PduType

__all__ = ["DecodeError", "ErrorStatus", "Oid", "Pdu", "PduType", "Value", "VarBind"]
