/*
 * Sends prebuilt datagrams to a UDP port of loopback and counts what comes back.
 *
 *   loadgen PORT WINDOW SECONDS FILE
 *
 * FILE holds datagrams, each behind its size (32 bits, in the order of the host). WINDOW of them
 * are under way at a time. With SECONDS 0 the file is sent once, otherwise again and again for so
 * long. Unless WINDOW is 1, answers are looked for every 100 us, with sleep in between, so that
 * the agent does not pay for waking up its client with every answer. An answer that does not come
 * within eight seconds is counted as lost, one that is a Report, is not encrypted though the request
 * was, or has an error-status, as an error.
 *
 * Prints: answers, lost, errors, octets received, nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WINDOW = 256, ROOM = 65536 };

static const int64_t LOST_AFTER = 8000000000;
static const struct timespec PAUSE = {0, 100000};

static unsigned char rooms[MAX_WINDOW][ROOM];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The contents of the element at *at, which is left behind it; NULL at the end of the data. */
static const unsigned char *element(const unsigned char **at, const unsigned char *end,
                                    const unsigned char **stop)
{
    const unsigned char *next = *at + 2;
    size_t size;
    if (next > end)
        return NULL;
    size = (*at)[1];
    if (size >= 0x80) {
        int count = size & 0x7f;
        for (size = 0; count > 0 && next < end; count--)
            size = size << 8 | *next++;
    }
    if (size > (size_t)(end - next))
        return NULL;
    *stop = *at = next + size;
    return next;
}

/* Whether an answer is a Response without error, as far as can be seen without keys. */
static int is_good(const unsigned char *data, size_t size)
{
    const unsigned char *at = data, *stop, *in, *version, *field;
    if ((in = element(&at, data + size, &stop)) == NULL)
        return 0;
    at = in;
    if ((version = element(&at, data + size, &field)) == NULL)
        return 0;
    if (*version == 3) {
        const unsigned char *head = element(&at, stop, &field), *inner = head;
        const unsigned char *flags = NULL;
        for (int number = 0; head != NULL && number < 3; number++)
            if ((flags = element(&inner, field, &in)) == NULL)
                return 0;
        return flags != NULL && (*flags & 3) == 3;
    }
    if (element(&at, stop, &field) == NULL || at >= stop || *at != 0xa2)
        return 0;
    in = element(&at, stop, &field);
    if (in == NULL || element(&in, stop, &field) == NULL)
        return 0;
    field = element(&in, stop, &stop);
    return field != NULL && *field == 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in peer = {.sin_family = AF_INET};
    struct mmsghdr messages[MAX_WINDOW];
    struct iovec vectors[MAX_WINDOW];
    long answers = 0, lost = 0, errors = 0, octets = 0;
    int handle, buffer = 8 << 20;
    size_t size, count = 0, turn = 0, sent = 0;
    unsigned char *data;
    unsigned char **starts = NULL;
    FILE *file;

    if (argc != 5 || atoi(argv[2]) < 1 || atoi(argv[2]) > MAX_WINDOW) {
        fprintf(stderr, "loadgen PORT WINDOW SECONDS FILE; the window is 1 to %d\n", MAX_WINDOW);
        return 2;
    }
    int window = atoi(argv[2]);
    int64_t duration = (int64_t)(atof(argv[3]) * 1e9);
    if ((file = fopen(argv[4], "rb")) == NULL)
        fail(argv[4]);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    if ((data = malloc(size + 4)) == NULL || fread(data, 1, size, file) != size)
        fail(argv[4]);
    for (size_t at = 0; at < size; count++) {
        if (count % 1024 == 0 && !(starts = realloc(starts, (count + 1024) * sizeof *starts)))
            fail("datagrams");
        starts[count] = data + at;
        at += 4 + *(uint32_t *)(data + at);
    }

    peer.sin_port = htons(atoi(argv[1]));
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    handle = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(handle, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (handle < 0 || connect(handle, (struct sockaddr *)&peer, sizeof peer) < 0)
        fail("connect");

    prctl(PR_SET_TIMERSLACK, 1);
    int64_t began = now(), ended = began;
    int under_way = 0;
    while (under_way > 0 || (duration ? ended - began < duration : sent < count)) {
        int more = window - under_way, received;
        if (duration ? ended - began >= duration : 0)
            more = 0;
        if (!duration && (size_t)more > count - sent)
            more = count - sent;
        memset(messages, 0, sizeof messages);
        for (int number = 0; number < more; number++) {
            unsigned char *start = starts[turn];
            turn = (turn + 1) % count;
            vectors[number] = (struct iovec){start + 4, *(uint32_t *)start};
            messages[number].msg_hdr.msg_iov = &vectors[number];
            messages[number].msg_hdr.msg_iovlen = 1;
        }
        for (int number = 0; number < more;) {
            int done = sendmmsg(handle, messages + number, more - number, 0);
            if (done < 0)
                fail("send");
            number += done;
        }
        sent += more;
        under_way += more;
        if (under_way == 0)
            break;
        struct pollfd ready = {handle, POLLIN, 0};
        if (window == 1)
            poll(&ready, 1, LOST_AFTER / 1000000);
        else
            nanosleep(&PAUSE, NULL);
        memset(messages, 0, sizeof messages);
        for (int number = 0; number < under_way; number++) {
            vectors[number] = (struct iovec){rooms[number], ROOM};
            messages[number].msg_hdr.msg_iov = &vectors[number];
            messages[number].msg_hdr.msg_iovlen = 1;
        }
        received = recvmmsg(handle, messages, under_way, MSG_DONTWAIT, NULL);
        if (received < 0 && errno != EAGAIN)
            fail("receive");
        for (int number = 0; number < received; number++) {
            answers++;
            octets += messages[number].msg_len;
            errors += !is_good(rooms[number], messages[number].msg_len);
        }
        if (received > 0) {
            under_way -= received;
            ended = now();
        } else if (now() - ended > LOST_AFTER) {
            lost += under_way;
            under_way = 0;
            ended = now();
        }
    }
    printf("%ld %ld %ld %ld %ld\n", answers, lost, errors, octets, (long)(ended - began));
    return 0;
}
