/*
 * Copyright (c) 2026, openlun.iscsi contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The benchmark's light client: as many READs or WRITEs as a target can do, for as little processor time as possible.
 *
 * Every wake-up takes all answers that are there with one receive, and sends the commands that follow with one send.
 * It checks what a session rests on (StatSN, the command window, status, lengths, digests) and gives up at the first
 * fault with a sentence. It prints "ready" when all sessions are logged in, begins at the end of a line on standard
 * input, and prints one line of JSON: operations, seconds, rate, and latencies in microseconds.
 *
 * usage: light [-w] [-D] [-n SESSIONS] [-d DEPTH] [-s BYTES] [-t SECONDS] [-i MICROSECONDS] URL...
 *   -w  write instead of read      -D  both digests CRC32C
 *   -i  one command every so many microseconds a session, whatever the answers do, instead of as many as possible
 *   URL iscsi://ADDRESS:PORT/NODE/LUN; sessions are spread over several
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    BHS = 48, CRC = 4,
    SEGMENT = 262144,      /* MaxRecvDataSegmentLength that is declared */
    RECEIVE = 2 * SEGMENT, /* holds the largest PDU and the beginning of another */
    PINGS = 8,
    STUCK = 30,            /* seconds without an answer after which nothing is waited for */
    SLOWEST = 200000,      /* microseconds; what takes longer is counted as this in percentiles */
};
enum { NOP_OUT = 0x40, COMMAND = 0x01, LOGIN = 0x43, LOGOUT = 0x46 };
enum { NOP_IN = 0x20, RESPONSE = 0x21, LOGIN_RESPONSE = 0x23, DATA_IN = 0x25, LOGOUT_RESPONSE = 0x26, R2T = 0x31 };
enum { FINAL = 0x80, READS = 0x40, WRITES = 0x20, SIMPLE = 0x01, HAS_STATUS = 0x01, RESIDUAL = 0x06 };
#define NO_TAG 0xffffffffu

struct slot { /* one command; its place in the array is its task tag */
    uint8_t header[BHS + CRC];
    bool busy;
    uint32_t received;
    double since;
};

struct session {
    char url[512], host[64], node[256];
    int fd, port, lun;
    bool digests, wants_out;
    uint32_t cmd_sn, max_cmd_sn, exp_stat_sn, block_size, blocks;
    uint64_t random;
    struct slot *slots;
    int *idle, idle_count;         /* slots that may be used */
    struct iovec *queue;           /* what is to be sent */
    int queue_begin, queue_end;
    uint8_t *buffer;
    size_t begin, end;
    uint8_t pings[PINGS][BHS + CRC];
    int ping_count;
    uint64_t due, issued;          /* with -i: commands that may have been, and were, sent since the start */
};

static struct {
    bool writes, digests;
    int sessions, depth;
    uint32_t bytes;
    double seconds, interval;
} want = {.sessions = 1, .depth = 32, .bytes = 4096, .seconds = 2};

static uint8_t *payload; /* of every WRITE, with its digest behind it */
static bool stopping;
static uint64_t operations;
static double start, worst;
static uint32_t *latencies; /* by microsecond */

static void fail(const char *format, ...)
{
    va_list words;
    va_start(words, format);
    fputs("light: ", stderr);
    vfprintf(stderr, format, words);
    fputc('\n', stderr);
    exit(1);
}

static double clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static uint32_t get32(const uint8_t *from) { uint32_t value; memcpy(&value, from, 4); return ntohl(value); }
static void put32(uint8_t *to, uint32_t value) { value = htonl(value); memcpy(to, &value, 4); }
static uint32_t get24(const uint8_t *from) { return from[0] << 16 | from[1] << 8 | from[2]; }
static void put24(uint8_t *to, uint32_t value) { to[0] = value >> 16; to[1] = value >> 8; to[2] = value; }
static size_t padded(size_t length) { return (length + 3) & ~(size_t)3; }
static bool after(uint32_t one, uint32_t other) { return (int32_t)(one - other) > 0; } /* RFC 1982 */

/* CRC32C by the processor's instruction where there is one, else by a table. */
#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t fast_crc(uint32_t crc, const uint8_t *data, size_t length)
{
    uint64_t wide = crc, eight;
    for (; length >= 8; data += 8, length -= 8) {
        memcpy(&eight, data, 8);
        wide = __builtin_ia32_crc32di(wide, eight);
    }
    for (crc = wide; length; data++, length--)
        crc = __builtin_ia32_crc32qi(crc, *data);
    return crc;
}
static bool is_fast(void) { return __builtin_cpu_supports("sse4.2"); }
#else
static uint32_t fast_crc(uint32_t crc, const uint8_t *data, size_t length) { (void)data; (void)length; return crc; }
static bool is_fast(void) { return false; }
#endif

static uint32_t slow_crc(uint32_t crc, const uint8_t *data, size_t length)
{
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t row = byte;
            for (int bit = 0; bit < 8; bit++)
                row = row >> 1 ^ (row & 1 ? 0x82f63b78 : 0);
            table[byte] = row;
        }
    for (; length; data++, length--)
        crc = crc >> 8 ^ table[(crc ^ *data) & 0xff];
    return crc;
}

/* As it lies on the wire. */
static uint32_t digest(const uint8_t *data, size_t length)
{
    static int fast = -1;
    if (fast < 0)
        fast = is_fast();
    return ~(fast ? fast_crc : slow_crc)(NO_TAG, data, length);
}

static void put_digest(uint8_t *to, uint32_t crc)
{
    for (int byte = 0; byte < CRC; byte++)
        to[byte] = crc >> 8 * byte;
}

static void check_digest(const struct session *s, const uint8_t *data, size_t length, const char *what)
{
    uint8_t right[CRC];
    put_digest(right, digest(data, length));
    if (memcmp(right, data + length, CRC))
        fail("%s: wrong %s digest", s->url, what);
}

/* -- one PDU after the other, for login and logout ------------------------------------------------------------ */

static void send_all(struct session *s, const uint8_t *data, size_t length)
{
    while (length) {
        ssize_t sent = send(s->fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            fail("%s: sending failed: %s", s->url, strerror(errno));
        if (sent > 0) {
            data += sent;
            length -= sent;
        }
    }
}

static void receive_all(struct session *s, uint8_t *data, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t more = recv(s->fd, data + got, length - got, 0);
        if (more == 0)
            fail("%s: the target closed the connection", s->url);
        if (more < 0 && errno != EINTR)
            fail("%s: receiving failed: %s", s->url, strerror(errno));
        got += more > 0 ? more : 0;
    }
}

static void put_pdu(struct session *s, uint8_t *header, const char *data, size_t length)
{
    uint8_t pdu[BHS + CRC + 8192 + CRC] = {0};
    size_t at = BHS;
    put24(header + 5, length);
    put32(header + 28, s->exp_stat_sn);
    memcpy(pdu, header, BHS);
    if (s->digests) {
        put_digest(pdu + BHS, digest(pdu, BHS));
        at += CRC;
    }
    memcpy(pdu + at, data, length);
    if (s->digests && length)
        put_digest(pdu + at + padded(length), digest(pdu + at, padded(length)));
    send_all(s, pdu, at + padded(length) + (s->digests && length ? CRC : 0));
}

static uint8_t *answer_ping(struct session *s, const uint8_t *ping)
{
    uint8_t *pong = s->pings[s->ping_count++ % PINGS];
    memset(pong, 0, BHS);
    pong[0] = NOP_OUT;
    pong[1] = FINAL;
    memcpy(pong + 8, ping + 8, 8);
    put32(pong + 16, NO_TAG);
    memcpy(pong + 20, ping + 20, 4);
    put32(pong + 24, s->cmd_sn);
    put32(pong + 28, s->exp_stat_sn);
    put_digest(pong + BHS, digest(pong, BHS));
    return pong;
}

/* The window, and the status sequence of a PDU that has one (RFC 7143 §4.2.2). */
static void take_numbers(struct session *s, const uint8_t *header, bool has_status)
{
    uint32_t max = get32(header + 32);
    if (after(max, s->max_cmd_sn))
        s->max_cmd_sn = max;
    if (!has_status)
        return;
    if (get32(header + 24) != s->exp_stat_sn)
        fail("%s: StatSN %u where %u comes next", s->url, get32(header + 24), s->exp_stat_sn);
    s->exp_stat_sn++;
}

/* The next PDU that is no ping; at most 8192 bytes of data. */
static size_t get_pdu(struct session *s, uint8_t *header, uint8_t *data)
{
    for (;;) {
        receive_all(s, header, BHS + (s->digests ? CRC : 0));
        if (s->digests)
            check_digest(s, header, BHS, "header");
        size_t length = get24(header + 5), whole = padded(length) + (s->digests && length ? CRC : 0);
        if (header[4] || length > 8192)
            fail("%s: unexpected PDU %#x with %zu bytes", s->url, header[0], length);
        receive_all(s, data, whole);
        if (s->digests && length)
            check_digest(s, data, padded(length), "data");
        bool is_ping = header[0] == NOP_IN && get32(header + 16) == NO_TAG;
        if (header[0] == LOGIN_RESPONSE && !s->max_cmd_sn) {
            s->exp_stat_sn = get32(header + 24);
            s->max_cmd_sn = get32(header + 32);
        }
        take_numbers(s, header, !is_ping && (header[0] != DATA_IN || header[1] & HAS_STATUS));
        if (!is_ping)
            return length;
        if (get32(header + 20) != NO_TAG)
            put_pdu(s, answer_ping(s, header), "", 0);
    }
}

/* The value of a key among answers, or "". */
static const char *key(const uint8_t *text, size_t length, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = (const char *)text, *end = at + length; at < end; at += strnlen(at, end - at) + 1)
        if (!strncmp(at, name, size) && at[size] == '=')
            return at + size + 1;
    return "";
}

static void check_login(struct session *s, const uint8_t *text, size_t length)
{
    const char *data_digest = key(text, length, "DataDigest"), *largest = key(text, length, "MaxRecvDataSegmentLength");
    const char *burst = key(text, length, "FirstBurstLength");
    uint32_t segment = *largest ? strtoul(largest, NULL, 10) : 8192;
    if (want.digests && (strcmp(data_digest, "CRC32C") || strcmp(key(text, length, "HeaderDigest"), "CRC32C")))
        fail("%s: the target does without digests", s->url);
    if (want.writes && !strcmp(key(text, length, "ImmediateData"), "No"))
        fail("%s: the target takes no immediate data", s->url);
    if (want.writes && (want.bytes > segment || (*burst && want.bytes > strtoul(burst, NULL, 10))))
        fail("%s: the target takes no WRITE of %u bytes in one PDU", s->url, want.bytes);
    s->digests = want.digests;
}

static void login(struct session *s, int number)
{
    char text[2048], name[] = "iqn.2026-01.test.openlun:light";
    const char *kind = want.digests ? "CRC32C" : "None";
    int length = snprintf(text, sizeof text,
        "InitiatorName=%s%cTargetName=%s%cSessionType=Normal%cHeaderDigest=%s%cDataDigest=%s%cMaxConnections=1%c"
        "InitialR2T=No%cImmediateData=Yes%cMaxRecvDataSegmentLength=%d%cMaxBurstLength=%d%cFirstBurstLength=%d%c"
        "DefaultTime2Wait=2%cDefaultTime2Retain=0%cMaxOutstandingR2T=1%cDataPDUInOrder=Yes%cDataSequenceInOrder=Yes%c"
        "ErrorRecoveryLevel=0%c",
        name, 0, s->node, 0, 0, kind, 0, kind, 0, 0, 0, 0, SEGMENT, 0, SEGMENT, 0, SEGMENT, 0, 0, 0, 0, 0, 0, 0);
    uint8_t header[BHS + CRC], answer[8192 + CRC], answers[16384];
    size_t gathered = 0;
    for (int rounds = 0; rounds < 8; rounds++) {
        memset(header, 0, sizeof header);
        header[0] = LOGIN;
        header[1] = FINAL | 1 << 2 | 3; /* from operational negotiation to full feature phase */
        header[8] = 0x80;               /* ISID: a random number, and a qualifier */
        put24(header + 9, getpid());
        header[12] = number >> 8;
        header[13] = number;
        put32(header + 24, s->cmd_sn);
        put_pdu(s, header, text, length);
        size_t got = get_pdu(s, header, answer);
        if (header[0] != LOGIN_RESPONSE || header[36])
            fail("%s: login refused, status %02x%02x", s->url, header[36], header[37]);
        if (gathered + got > sizeof answers)
            fail("%s: too much text in the answers to the login", s->url);
        memcpy(answers + gathered, answer, got);
        gathered += got;
        length = 0;
        if (header[1] & FINAL && (header[1] & 3) == 3) {
            check_login(s, answers, gathered);
            return;
        }
    }
    fail("%s: the login does not end", s->url);
}

/* A command without data, or with few of them; gives its status. */
static int simple(struct session *s, const uint8_t *cdb, size_t expected, uint8_t *data)
{
    uint8_t header[BHS + CRC] = {COMMAND, FINAL | (expected ? READS : 0) | SIMPLE};
    header[9] = s->lun;
    put32(header + 16, 1);
    put32(header + 20, expected);
    put32(header + 24, s->cmd_sn++);
    memcpy(header + 32, cdb, 16);
    put_pdu(s, header, "", 0);
    do
        get_pdu(s, header, data);
    while (header[0] == DATA_IN && !(header[1] & HAS_STATUS));
    return header[3];
}

static void open_session(struct session *s, int number)
{
    if (sscanf(s->url, "iscsi://%63[^:/]:%d/%255[^/]/%d", s->host, &s->port, s->node, &s->lun) != 4)
        fail("%s is no URL like iscsi://127.0.0.1:3260/iqn.2016-06.io.spdk:disk0/0", s->url);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    int on = 1;
    if (inet_pton(AF_INET, s->host, &address.sin_addr) != 1)
        fail("%s is no IPv4 address", s->host);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&address, sizeof address))
        fail("%s: no connection: %s", s->url, strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->cmd_sn = 1;
    login(s, number);
    uint8_t ready[16] = {0}, capacity[16] = {0x25}, data[8192 + CRC];
    for (int tries = 0; simple(s, ready, 0, data); tries++) /* unit attentions go by */
        if (tries == 8)
            fail("%s: the LUN does not become ready", s->url);
    if (simple(s, capacity, 8, data))
        fail("%s: READ CAPACITY failed", s->url);
    s->blocks = get32(data) == NO_TAG ? NO_TAG : get32(data) + 1;
    s->block_size = get32(data + 4);
    if (!s->block_size || want.bytes % s->block_size || s->blocks < want.bytes / s->block_size)
        fail("%s: no %u bytes fit into %u blocks of %u", s->url, want.bytes, s->blocks, s->block_size);
}

static void close_session(struct session *s)
{
    uint8_t header[BHS + CRC] = {LOGOUT, FINAL}, data[8192 + CRC];
    put32(header + 16, 2);
    put32(header + 24, s->cmd_sn);
    fcntl(s->fd, F_SETFL, 0);
    put_pdu(s, header, "", 0);
    get_pdu(s, header, data);
    if (header[0] != LOGOUT_RESPONSE || header[2])
        fail("%s: no logout", s->url);
    close(s->fd);
}

/* -- as many as possible ---------------------------------------------------------------------------------------- */

static void prepare(struct session *s, int number)
{
    s->random = 0x9e3779b97f4a7c15u * (number + 1);
    s->slots = calloc(want.depth, sizeof *s->slots);
    s->idle = calloc(want.depth, sizeof *s->idle);
    s->queue = calloc(2 * want.depth + PINGS, sizeof *s->queue);
    s->buffer = malloc(RECEIVE);
    if (!s->slots || !s->idle || !s->queue || !s->buffer)
        fail("no memory");
    for (int tag = 0; tag < want.depth; tag++) {
        uint8_t *header = s->slots[tag].header;
        header[0] = COMMAND;
        header[1] = FINAL | (want.writes ? WRITES : READS) | SIMPLE;
        put24(header + 5, want.writes ? want.bytes : 0);
        header[9] = s->lun;
        put32(header + 16, tag);
        put32(header + 20, want.bytes);
        header[32] = want.writes ? 0x2a : 0x28; /* WRITE(10), READ(10) */
        header[39] = want.bytes / s->block_size >> 8;
        header[40] = want.bytes / s->block_size;
        s->idle[s->idle_count++] = tag;
    }
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

static void enqueue(struct session *s, void *data, size_t length)
{
    if (s->queue_end == 2 * want.depth + PINGS) {
        if (!s->queue_begin)
            fail("%s: the target does not read what it asks for", s->url);
        memmove(s->queue, s->queue + s->queue_begin, (s->queue_end - s->queue_begin) * sizeof *s->queue);
        s->queue_end -= s->queue_begin;
        s->queue_begin = 0;
    }
    s->queue[s->queue_end++] = (struct iovec){data, length};
}

/* Give the commands that may be sent to the queue. */
static void issue(struct session *s, double now)
{
    uint32_t units = want.bytes / s->block_size, places = s->blocks / units;
    while (s->idle_count && !stopping && !after(s->cmd_sn, s->max_cmd_sn)) {
        if (want.interval && s->issued >= s->due)
            return;
        struct slot *slot = s->slots + s->idle[--s->idle_count];
        uint8_t *header = slot->header;
        s->random ^= s->random << 13; /* xorshift64 */
        s->random ^= s->random >> 7;
        s->random ^= s->random << 17;
        put32(header + 24, s->cmd_sn++);
        put32(header + 28, s->exp_stat_sn);
        put32(header + 34, (uint32_t)((s->random >> 32) * places >> 32) * units);
        if (s->digests)
            put_digest(header + BHS, digest(header, BHS));
        slot->busy = true;
        slot->received = 0;
        slot->since = want.interval ? start + (s->issued + 1) * want.interval : now;
        s->issued++;
        enqueue(s, header, s->digests ? BHS + CRC : BHS);
        if (want.writes)
            enqueue(s, payload, padded(want.bytes) + (s->digests ? CRC : 0));
    }
}

static void flush(struct session *s, int poll)
{
    bool blocked = false;
    while (s->queue_begin < s->queue_end && !blocked) {
        struct msghdr message = {.msg_iov = s->queue + s->queue_begin, .msg_iovlen = s->queue_end - s->queue_begin};
        if (message.msg_iovlen > 1024)
            message.msg_iovlen = 1024; /* IOV_MAX */
        ssize_t sent = sendmsg(s->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            fail("%s: sending failed: %s", s->url, strerror(errno));
        blocked = sent < 0 && errno == EAGAIN;
        for (; sent > 0; s->queue_begin++) {
            struct iovec *next = s->queue + s->queue_begin;
            if ((size_t)sent < next->iov_len) {
                next->iov_base = (uint8_t *)next->iov_base + sent;
                next->iov_len -= sent;
                break;
            }
            sent -= next->iov_len;
        }
    }
    if (s->queue_begin == s->queue_end)
        s->queue_begin = s->queue_end = 0;
    if (blocked != s->wants_out) {
        struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = s};
        epoll_ctl(poll, EPOLL_CTL_MOD, s->fd, &event);
        s->wants_out = blocked;
    }
}

static void finish(struct session *s, const uint8_t *header, double now)
{
    uint32_t tag = get32(header + 16);
    struct slot *slot = s->slots + tag;
    if (header[3] || (header[0] == RESPONSE && header[2]) || header[1] & RESIDUAL)
        fail("%s: a command ended with response %u, status %u, flags %#x", s->url, header[2], header[3], header[1]);
    if (!want.writes && slot->received != want.bytes)
        fail("%s: a READ gave %u bytes instead of %u", s->url, slot->received, want.bytes);
    slot->busy = false;
    s->idle[s->idle_count++] = tag;
    if (stopping)
        return;
    double took = now - slot->since;
    uint32_t bucket = took * 1e6;
    operations++;
    latencies[bucket < SLOWEST ? bucket : SLOWEST - 1]++;
    if (took > worst)
        worst = took;
}

static void take(struct session *s, const uint8_t *header, uint32_t length, double now)
{
    uint32_t tag = get32(header + 16);
    bool known = tag < (uint32_t)want.depth && s->slots[tag].busy;
    if (header[0] == DATA_IN && known) {
        s->slots[tag].received += length;
        take_numbers(s, header, header[1] & HAS_STATUS);
        if (header[1] & HAS_STATUS)
            finish(s, header, now);
    } else if (header[0] == RESPONSE && known) {
        take_numbers(s, header, true);
        finish(s, header, now);
    } else if (header[0] == NOP_IN && tag == NO_TAG) {
        take_numbers(s, header, false);
        if (get32(header + 20) != NO_TAG)
            enqueue(s, answer_ping(s, header), s->digests ? BHS + CRC : BHS);
    } else {
        fail("%s: unexpected PDU %#x for task %u", s->url, header[0], tag);
    }
}

static void receive(struct session *s, double now)
{
    ssize_t got = recv(s->fd, s->buffer + s->end, RECEIVE - s->end, 0);
    if (got == 0)
        fail("%s: the target closed the connection", s->url);
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return;
        fail("%s: receiving failed: %s", s->url, strerror(errno));
    }
    s->end += got;
    size_t crc = s->digests ? CRC : 0;
    while (s->end - s->begin >= BHS) {
        const uint8_t *header = s->buffer + s->begin;
        size_t head = BHS + header[4] * 4, length = get24(header + 5);
        size_t whole = head + crc + padded(length) + (length ? crc : 0);
        if (whole > RECEIVE)
            fail("%s: a PDU of %zu bytes", s->url, whole);
        if (s->end - s->begin < whole)
            break;
        if (crc)
            check_digest(s, header, head, "header");
        if (crc && length)
            check_digest(s, header + head + crc, padded(length), "data");
        take(s, header, length, now);
        s->begin += whole;
    }
    memmove(s->buffer, s->buffer + s->begin, s->end - s->begin);
    s->end -= s->begin;
    s->begin = 0;
}

static double run(struct session *sessions)
{
    int poll = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event events[64], event = {.events = EPOLLIN};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event);
    if (want.interval) {
        long nanoseconds = want.interval * 1e9;
        struct timespec step = {nanoseconds / 1000000000, nanoseconds % 1000000000};
        timerfd_settime(timer, 0, &(struct itimerspec){step, step}, NULL);
    }
    double now = start = clock_now(), heard = now, took = 0;
    for (int each = 0; each < want.sessions; each++) {
        event.data.ptr = sessions + each;
        epoll_ctl(poll, EPOLL_CTL_ADD, sessions[each].fd, &event);
        issue(sessions + each, now);
        flush(sessions + each, poll);
    }
    for (int busy = 1; busy;) {
        int count = epoll_wait(poll, events, 64, 100);
        now = clock_now();
        if (!stopping && now >= start + want.seconds) {
            took = now - start;
            stopping = true;
        }
        for (int each = 0; each < count; each++) {
            struct session *s = events[each].data.ptr;
            uint64_t expired;
            if (!s) {
                if (read(timer, &expired, sizeof expired) == sizeof expired)
                    for (int one = 0; one < want.sessions; one++) {
                        sessions[one].due += expired;
                        issue(sessions + one, now);
                        flush(sessions + one, poll);
                    }
                continue;
            }
            if (events[each].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                receive(s, now);
                heard = now;
            }
            issue(s, now);
            flush(s, poll);
        }
        busy = !stopping;
        for (int each = 0; stopping && each < want.sessions; each++)
            busy |= sessions[each].idle_count < want.depth;
        if (now > heard + STUCK)
            fail("%s: no answer for %d seconds", sessions->url, STUCK);
    }
    return took;
}

static uint32_t percentile(double part)
{
    uint64_t sum = 0, bound = operations * part;
    uint32_t bucket = 0;
    while (bucket < SLOWEST - 1 && (sum += latencies[bucket]) < bound)
        bucket++;
    return bucket;
}

int main(int count, char **words)
{
    for (int option; (option = getopt(count, words, "wDn:d:s:t:i:")) != -1;)
        switch (option) {
        case 'w': want.writes = true; break;
        case 'D': want.digests = true; break;
        case 'n': want.sessions = atoi(optarg); break;
        case 'd': want.depth = atoi(optarg); break;
        case 's': want.bytes = atoi(optarg); break;
        case 't': want.seconds = atof(optarg); break;
        case 'i': want.interval = atof(optarg) / 1e6; break;
        default: return 2;
        }
    if (optind == count || want.sessions < 1 || want.depth < 1 || want.bytes < 1 || want.bytes > SEGMENT)
        fail("a URL, a number of sessions, a depth, and a size up to %d bytes are needed", SEGMENT);
    payload = malloc(want.bytes + 3 + CRC);
    latencies = calloc(SLOWEST, sizeof *latencies);
    struct session *sessions = calloc(want.sessions, sizeof *sessions);
    if (!payload || !latencies || !sessions)
        fail("no memory");
    for (uint32_t byte = 0; byte < padded(want.bytes); byte++)
        payload[byte] = byte < want.bytes ? byte * 2654435761u >> 24 : 0;
    put_digest(payload + padded(want.bytes), digest(payload, padded(want.bytes)));
    for (int each = 0; each < want.sessions; each++) {
        snprintf(sessions[each].url, sizeof sessions->url, "%s", words[optind + each % (count - optind)]);
        open_session(sessions + each, each);
        prepare(sessions + each, each);
    }
    puts("ready");
    fflush(stdout);
    for (int byte; (byte = getchar()) != '\n' && byte != EOF;)
        ;
    double took = run(sessions);
    printf("{\"operations\": %lu, \"seconds\": %.6f, \"rate\": %.1f, \"median_us\": %u, \"p99_us\": %u, \"worst_us\": %.0f}\n",
           (unsigned long)operations, took, operations / took, percentile(0.5), percentile(0.99), worst * 1e6);
    fflush(stdout);
    for (int each = 0; each < want.sessions; each++)
        close_session(sessions + each);
    return 0;
}
