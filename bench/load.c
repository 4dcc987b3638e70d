/* Load for an HTTP server of this machine: clients that ask again as soon as they are answered, in one thread.

   load PORT CLIENTS WARM_UP SECONDS TIMEOUT KEEP  WEIGHT LENGTH FILE [WEIGHT LENGTH FILE ...]

   Each request is one of the FILEs, taken at random by their WEIGHTs; its answer must be a 200 whose body has LENGTH
   bytes. KEEP is 1 where clients keep their connections, as long as the server does, and 0 where each request has one
   of its own. What counts is what happens within SECONDS, after so many of WARM_UP; the last requests still get their
   answer, an error or TIMEOUT seconds. So no client is forgotten: one that the server lets starve is a timeout, and among
   the latencies. Latencies begin with the request, or where there is no connection yet, with connecting.

   Prints one JSON object; latencies are in microseconds. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_KINDS = 8, HEAD = 8192, BATCH = 256, PAUSE = 100000 /* of a client that failed, microseconds */ };
enum error { CONNECT, CLOSED, STATUS, WRONG, TIMEOUT, ERRORS };
enum body { SIZED, CHUNKED, TO_THE_END };
enum chunk { SIZE, EXTENSION, DATA, DATA_END, TRAILER, TRAILER_LINE };

struct kind {
    double weight;
    long length;
    char *request;
    size_t size;
    uint32_t *latencies;
    size_t count, room, answered;
};

struct client {
    int fd; /* -1: it rests until `began` */
    struct kind *kind;
    int64_t began;
    size_t sent;
    bool connecting, writing, has_head, keeps;
    int status;
    enum body body;
    enum chunk chunk;
    long left, received;
    size_t head_size;
    char head[HEAD];
};

static struct kind kinds[MOST_KINDS];
static int kind_count, epoll, client_count;
static struct client *clients;
static struct sockaddr_in address = {.sin_family = AF_INET};
static int64_t first, last, timeout; /* the span that counts, and the longest latency */
static bool keep;
static long errors[ERRORS];
static long answers; /* all, also those before and after the time that counts */
static const char *error_names[ERRORS] = {"not connected", "cut off", "not 200", "of a wrong length", "timed out"};

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t draw(void) { /* xorshift: the same numbers in each run */
    static uint64_t state = 88172645463325252ULL;
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static struct kind *any_kind(void) {
    double at = (double)(draw() >> 11) / (double)(1ULL << 53);
    int index = 0;
    while (index < kind_count - 1 && at >= kinds[index].weight)
        at -= kinds[index++].weight;
    return &kinds[index];
}

static bool counts(struct client *client, int64_t end) {
    return end >= first && client->began < last;
}

static void note(struct client *client, int64_t latency) {
    struct kind *kind = client->kind;
    if (kind->count == kind->room) {
        kind->room = kind->room ? kind->room * 2 : 1 << 16;
        if (!(kind->latencies = realloc(kind->latencies, kind->room * sizeof *kind->latencies)))
            fail("realloc");
    }
    kind->latencies[kind->count++] = latency;
}

static void watch(struct client *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll, operation, client->fd, &event))
        fail("epoll_ctl");
}

static void hang_up(struct client *client) {
    close(client->fd);
    client->fd = -1;
}

static void give_up(struct client *client, enum error error) {
    int64_t time = now();
    if (counts(client, time)) {
        errors[error]++;
        if (error == TIMEOUT)
            note(client, timeout);
    }
    hang_up(client);
    client->began = time + PAUSE;
}

static void push(struct client *client) {
    struct kind *kind = client->kind;
    ssize_t sent = send(client->fd, kind->request + client->sent, kind->size - client->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != ENOTCONN) {
        /* Who is refused before all is sent may still have been answered: that is read first. */
        if (client->connecting) {
            give_up(client, CONNECT);
        } else {
            client->writing = false;
            watch(client, EPOLL_CTL_MOD, EPOLLIN);
        }
        return;
    }
    if (sent > 0) {
        client->sent += sent;
        client->connecting = false;
    }
    bool writing = client->sent < kind->size;
    if (writing != client->writing)
        watch(client, EPOLL_CTL_MOD, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    client->writing = writing;
}

static void dial(struct client *client) {
    int on = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        fail("socket");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client->connecting = true;
    client->writing = false;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
        give_up(client, CONNECT);
        return;
    }
    watch(client, EPOLL_CTL_ADD, EPOLLIN);
}

static void ask(struct client *client, int64_t time) {
    client->began = time;
    client->kind = any_kind();
    client->sent = client->head_size = client->received = 0;
    client->has_head = false;
    if (client->fd < 0)
        dial(client);
    if (client->fd >= 0)
        push(client);
}

static void answered(struct client *client) {
    int64_t time = now();
    if (client->status != 200) {
        give_up(client, STATUS);
        return;
    }
    if (client->received != client->kind->length) {
        give_up(client, WRONG);
        return;
    }
    answers++;
    if (counts(client, time))
        note(client, time - client->began);
    if (time >= first && time < last)
        client->kind->answered++;
    if (!client->keeps || !keep || client->sent < client->kind->size)
        hang_up(client);
    if (time < last)
        ask(client, time);
    else
        client->began = last;
}

static const char *field(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}

static bool says(const char *value, const char *word) {
    char line[128];
    if (!value)
        return false;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(value, "\r"), value);
    return strcasestr(line, word);
}

static void read_head(struct client *client) {
    const char *connection = field(client->head, "\r\nconnection:");
    const char *length = field(client->head, "\r\ncontent-length:");
    client->has_head = true;
    client->status = client->head_size > 12 ? atoi(client->head + 9) : 0;
    client->keeps = strncmp(client->head, "HTTP/1.1", 8) ? says(connection, "keep-alive") : !says(connection, "close");
    if (says(field(client->head, "\r\ntransfer-encoding:"), "chunked")) {
        client->body = CHUNKED;
        client->chunk = SIZE;
        client->left = 0;
    } else if (length) {
        client->body = SIZED;
        client->left = atol(length);
    } else {
        client->body = TO_THE_END;
        client->keeps = false;
    }
}

static int digit(char byte) {
    return byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10;
}

static bool chunks_end(struct client *client, const char *data, size_t size) {
    for (size_t at = 0; at < size;) {
        char byte = data[at];
        if (client->chunk == DATA) {
            long taken = client->left < (long)(size - at) ? client->left : (long)(size - at);
            client->received += taken;
            client->left -= taken;
            at += taken;
            if (!client->left)
                client->chunk = DATA_END;
            continue;
        }
        at++;
        if (client->chunk == TRAILER && byte == '\n')
            return true;
        if (client->chunk == TRAILER && byte != '\r')
            client->chunk = TRAILER_LINE;
        else if (client->chunk == TRAILER_LINE && byte == '\n')
            client->chunk = TRAILER;
        else if (client->chunk == DATA_END && byte == '\n')
            client->chunk = SIZE;
        else if (client->chunk == SIZE && (byte == ';' || byte == '\r'))
            client->chunk = EXTENSION;
        else if (client->chunk == SIZE)
            client->left = client->left * 16 + digit(byte);
        else if (client->chunk == EXTENSION && byte == '\n')
            client->chunk = client->left ? DATA : TRAILER;
    }
    return false;
}

static bool body_ends(struct client *client, const char *data, size_t size) {
    if (client->body == CHUNKED)
        return chunks_end(client, data, size);
    client->received += size;
    return client->body == SIZED && client->received >= client->left;
}

static void take(struct client *client) {
    static char data[1 << 18];
    ssize_t size = recv(client->fd, data, sizeof data, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        if (size == 0 && client->has_head && client->body == TO_THE_END)
            answered(client);
        else
            give_up(client, client->connecting ? CONNECT : CLOSED);
        return;
    }
    const char *rest = data;
    if (!client->has_head) {
        size_t before = client->head_size, room = HEAD - 1 - before;
        size_t more = (size_t)size < room ? (size_t)size : room;
        memcpy(client->head + before, data, more);
        client->head_size += more;
        client->head[client->head_size] = 0;
        char *end = strstr(client->head, "\r\n\r\n");
        if (!end) {
            if (more == room)
                give_up(client, WRONG);
            return;
        }
        end[2] = 0; /* so that no field is found in the body */
        read_head(client);
        rest = data + (end + 4 - client->head - before);
    }
    if (body_ends(client, rest, data + size - rest))
        answered(client);
}

/* Call on those who rest, give up those who wait too long; return whether anybody still waits for what counts. */
static bool sweep(int64_t time) {
    bool waiting = false;
    for (struct client *client = clients; client < clients + client_count; client++) {
        if (client->fd >= 0 && client->began < last && time - client->began >= timeout)
            give_up(client, TIMEOUT);
        if (client->fd < 0 && time < last && client->began <= time)
            ask(client, time);
        waiting = waiting || (client->fd >= 0 && client->began < last);
    }
    return waiting;
}

static void run(void) {
    struct epoll_event events[BATCH];
    int64_t next = 0;
    while (true) {
        int64_t time = now();
        if (time >= next) {
            next = time + PAUSE / 5;
            if (!sweep(time) && time >= last)
                return;
        }
        int count = epoll_wait(epoll, events, BATCH, PAUSE / 5 / 1000);
        for (int index = 0; index < count; index++) {
            struct client *client = events[index].data.ptr;
            if (client->fd >= 0 && events[index].events & EPOLLOUT && client->writing)
                push(client);
            if (client->fd >= 0 && events[index].events & ~EPOLLOUT)
                take(client);
        }
    }
}

static void load_kind(char **words) {
    struct kind *kind = &kinds[kind_count++];
    FILE *file = fopen(words[2], "rb");
    kind->weight = atof(words[0]);
    kind->length = atol(words[1]);
    if (!file || fseek(file, 0, SEEK_END))
        fail(words[2]);
    kind->size = ftell(file);
    kind->request = malloc(kind->size + 1);
    rewind(file);
    if (!kind->request || fread(kind->request, 1, kind->size, file) != kind->size)
        fail(words[2]);
    fclose(file);
}

static int compare(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void report(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"cpu\": %.3f, \"answers\": %ld, \"failures\": {", cpu, answers);
    for (int error = 0; error < ERRORS; error++)
        printf("%s\"%s\": %ld", error ? ", " : "", error_names[error], errors[error]);
    printf("}, \"kinds\": [");
    for (struct kind *kind = kinds; kind < kinds + kind_count; kind++) {
        size_t count = kind->count;
        if (count)
            qsort(kind->latencies, count, sizeof *kind->latencies, compare);
        printf("%s{\"answered\": %zu, \"p50\": %u, \"p99\": %u, \"max\": %u}", kind == kinds ? "" : ", ", kind->answered,
               count ? kind->latencies[count / 2] : 0, count ? kind->latencies[count * 99 / 100] : 0,
               count ? kind->latencies[count - 1] : 0);
    }
    printf("]}\n");
}

int main(int argc, char **argv) {
    if (argc < 10 || argc % 3 != 1 || argc > 7 + 3 * MOST_KINDS) {
        fputs("load PORT CLIENTS WARM_UP SECONDS TIMEOUT KEEP WEIGHT LENGTH FILE [WEIGHT LENGTH FILE ...]\n", stderr);
        return 2;
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(atoi(argv[1]));
    client_count = atoi(argv[2]);
    timeout = atof(argv[5]) * 1e6;
    keep = atoi(argv[6]);
    for (int at = 7; at < argc; at += 3)
        load_kind(argv + at);
    clients = calloc(client_count, sizeof *clients);
    epoll = epoll_create1(0);
    if (!clients || epoll < 0)
        fail("load");
    for (int index = 0; index < client_count; index++)
        clients[index].fd = -1;
    first = now() + atof(argv[3]) * 1e6;
    last = first + atof(argv[4]) * 1e6;
    run();
    report();
    return 0;
}
