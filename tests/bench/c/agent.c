/*
 * An SNMP agent in C on net-snmp's library that serves the columns of vmibShapeTable, so that
 * vMIB's agent can be measured against it. The rows live in memory (netsnmp_tdata).
 *
 *   agent PORT VIFS OID
 *
 * Users and communities come from vmib_bench.conf in the directories of SNMPCONFPATH. VIFS
 * interfaces, ten per machine, have a row in each direction. OID is that of vmibShapeTable. A SET
 * writes any column, if it has its type; there are no transactions, no disk and no kernel.
 */
#include <net-snmp/net-snmp-config.h>
#include <net-snmp/net-snmp-includes.h>
#include <net-snmp/agent/net-snmp-agent-includes.h>
#include <signal.h>

/* Parts of net-snmp's agent that are in none of the installed headers. */
void init_vacm_vars(void);
void init_usmUser(void);

enum { FIRST_COLUMN = 2, LAST_COLUMN = 13, COLUMNS = LAST_COLUMN + 1, VIFS_PER_MACHINE = 10 };

struct shape {
    long values[COLUMNS];
    long undo;
};

static volatile sig_atomic_t is_running = 1;

static void stop(int number)
{
    (void)number;
    is_running = 0;
}

/* vmibShapeDistribution and vmibShapeStorageType are enumerations, the others Unsigned32. */
static u_char type_of(int column)
{
    return column == 7 || column == 13 ? ASN_INTEGER : ASN_UNSIGNED;
}

static int handle(netsnmp_mib_handler *handler, netsnmp_handler_registration *registration,
                  netsnmp_agent_request_info *info, netsnmp_request_info *requests)
{
    netsnmp_request_info *request;
    (void)handler;
    (void)registration;
    for (request = requests; request != NULL; request = request->next) {
        struct shape *shape = netsnmp_tdata_extract_entry(request);
        netsnmp_table_request_info *place = netsnmp_extract_table_info(request);
        netsnmp_variable_list *wanted = request->requestvb;
        if (request->processed)
            continue;
        if (shape == NULL || place == NULL) {
            int status = info->mode == MODE_GET ? SNMP_NOSUCHINSTANCE : SNMP_ERR_NOCREATION;
            netsnmp_set_request_error(info, request, status);
            continue;
        }
        switch (info->mode) {
        case MODE_GET:
            snmp_set_var_typed_integer(wanted, type_of(place->colnum),
                                       shape->values[place->colnum]);
            break;
        case MODE_SET_RESERVE1:
            if (wanted->type != type_of(place->colnum))
                netsnmp_set_request_error(info, request, SNMP_ERR_WRONGTYPE);
            break;
        case MODE_SET_ACTION:
            shape->undo = shape->values[place->colnum];
            shape->values[place->colnum] = *wanted->val.integer;
            break;
        case MODE_SET_UNDO:
            shape->values[place->colnum] = shape->undo;
            break;
        }
    }
    return SNMP_ERR_NOERROR;
}

static void add_row(netsnmp_tdata *table, unsigned long vm, unsigned long vif, long direction)
{
    netsnmp_tdata_row *row = netsnmp_tdata_create_row();
    struct shape *shape = calloc(1, sizeof *shape);
    if (row == NULL || shape == NULL)
        exit(1);
    shape->values[7] = 1;
    shape->values[13] = 3;
    row->data = shape;
    netsnmp_tdata_row_add_index(row, ASN_UNSIGNED, &vm, sizeof vm);
    netsnmp_tdata_row_add_index(row, ASN_UNSIGNED, &vif, sizeof vif);
    netsnmp_tdata_row_add_index(row, ASN_INTEGER, &direction, sizeof direction);
    netsnmp_tdata_add_row(table, row);
}

int main(int argc, char **argv)
{
    char address[32];
    oid table_oid[MAX_OID_LEN];
    size_t table_oid_length = 0;
    for (char *at = argc == 4 ? argv[3] : ""; *at && table_oid_length < MAX_OID_LEN;)
        table_oid[table_oid_length++] = strtoul(at + (*at == '.'), &at, 10);
    if (table_oid_length == 0) {
        fprintf(stderr, "agent PORT|SOCKET VIFS OID\n");
        return 2;
    }
    int is_subagent = argv[1][0] == '/';
    snprintf(address, sizeof address, "udp:127.0.0.1:%d", atoi(argv[1]));
    snmp_disable_log();
    netsnmp_ds_set_boolean(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_ROLE, is_subagent);
    if (is_subagent)
        netsnmp_ds_set_string(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_X_SOCKET, argv[1]);
    else
        netsnmp_ds_set_string(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_PORTS, address);
    init_agent("vmib_bench");
    if (!is_subagent) {
        init_vacm_vars();
        init_usmUser();
    }

    netsnmp_tdata *table = netsnmp_tdata_create_table("vmibShapeTable", 0);
    netsnmp_table_registration_info *columns = SNMP_MALLOC_TYPEDEF(netsnmp_table_registration_info);
    netsnmp_table_helper_add_indexes(columns, ASN_UNSIGNED, ASN_UNSIGNED, ASN_INTEGER, 0);
    columns->min_column = FIRST_COLUMN;
    columns->max_column = LAST_COLUMN;
    netsnmp_tdata_register(netsnmp_create_handler_registration("vmibShapeTable", handle, table_oid,
                                                               table_oid_length,
                                                               HANDLER_CAN_RWRITE),
                           table, columns);
    init_snmp("vmib_bench");
    for (unsigned long vif = 0; vif < strtoul(argv[2], NULL, 10); vif++)
        for (long direction = 1; direction <= 2; direction++)
            add_row(table, vif / VIFS_PER_MACHINE + 1, vif % VIFS_PER_MACHINE + 1, direction);

    signal(SIGTERM, stop);
    if (!is_subagent && init_master_agent() != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    while (is_running)
        agent_check_and_process(1);
    return 0;
}
