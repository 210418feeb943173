/* tortie, tortie-ipam: what a container runtime executes.
 *
 * It carries one CNI call to the agent's unix socket and the answer back: the CNI_* environment, standard input, and
 * for ADD and CHECK two descriptors (SCM_RIGHTS): the pod's network namespace, and a netlink socket opened inside it.
 * The runtime runs this program as root; with that socket the agent can configure the pod with CAP_NET_ADMIN alone.
 *
 * Request:  u32 length (host order), then length bytes: "NAME=value\0"..., "\0", standard input.
 * Answer:   u32 length, then length bytes: exit status (one byte), standard output.
 *
 * With no agent: VERSION is answered here always, STATUS is 50, DEL leaves a tombstone (the same request in a file
 * beside the socket, which the agent replays) and succeeds, anything else is 11, try again later.
 *
 * Sources: CNI SPEC 1.1.0 (sections 2 and 5), unix(7), setns(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BAD_ENVIRONMENT = 4, IO_FAILURE = 5, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 };
enum { REQUEST_MAX = 16 << 20, ANSWER_MAX = 16 << 20, WAIT_S = 180, WAIT_DEL_S = 20, WAIT_STATUS_S = 2 };

static const char *const DEFAULT_SOCKET = "/run/tortie/cni.sock";
static const char *const VERSIONS = "\"1.0.0\",\"1.1.0\"";

extern char **environ;

struct buffer {
    char *data;
    size_t length, room;
};

static const char *env(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

static void append(struct buffer *b, const void *data, size_t length) {
    if (b->length + length > b->room) {
        b->room = (b->length + length) * 2 + 4096;
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    memcpy(b->data + b->length, data, length);
    b->length += length;
}

static int write_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        data += n, length -= (size_t)n;
    }
    return 0;
}

static int read_all(int fd, char *data, size_t length) {
    while (length) {
        ssize_t n = read(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = ECONNRESET;
            return -1;
        }
        data += n, length -= (size_t)n;
    }
    return 0;
}

static void print_json(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') printf("\\%c", *c);
        else if (*c < 0x20) printf("\\u%04x", *c);
        else putchar(*c);
    }
}

static int fail(int code, const char *message, const char *details) {
    printf("{\"cniVersion\":\"1.1.0\",\"code\":%d,\"msg\":\"", code);
    print_json(message);
    printf("\",\"details\":\"");
    print_json(details);
    printf("\"}\n");
    return fflush(stdout) ? 2 : 1;
}

/* Standard input to its end; the runtime closes it. */
static int read_stdin(struct buffer *b) {
    char chunk[65536];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        if (b->length + (size_t)n > REQUEST_MAX) return errno = EMSGSIZE, -1;
        append(b, chunk, (size_t)n);
    }
}

/* A netlink socket inside the namespace; this process is in it from then on, which a unix socket's path doesn't mind.
 * Returns NULL, or what was wrong with the namespace. */
static const char *enter(const char *path, int *netns, int *netlink) {
    *netns = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*netns < 0) return strerror(errno);
    if (setns(*netns, CLONE_NEWNET)) return errno == EINVAL ? "not a network namespace" : strerror(errno);
    *netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
    return *netlink < 0 ? strerror(errno) : NULL;
}

static void add_variable(struct buffer *b, const char *name, const char *value) {
    append(b, name, strlen(name));
    append(b, "=", 1);
    append(b, value, strlen(value) + 1);
}

static int connect_to(const char *path, int wait_s) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = wait_s};
    if (strlen(path) >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        int reason = errno;
        close(fd);
        return errno = reason, -1;
    }
    return fd;
}

/* The descriptors go with the length; the rest follows. */
static int send_request(int fd, const struct buffer *request, int netns, int netlink) {
    uint32_t length = (uint32_t)request->length;
    struct iovec part = {&length, sizeof length};
    union {
        char space[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (netlink >= 0) {
        int pair[2] = {netns, netlink};
        message.msg_control = control.space, message.msg_controllen = sizeof control.space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof pair);
        memcpy(CMSG_DATA(header), pair, sizeof pair);
    }
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != sizeof length) return -1;
    for (size_t sent = 0; sent < request->length;) {
        ssize_t n = send(fd, request->data + sent, request->length - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        sent += (size_t)n;
    }
    return 0;
}

/* Exit status, or -1 with errno where the agent went away. */
static int answer(int fd) {
    uint32_t length;
    if (read_all(fd, (char *)&length, sizeof length)) return -1;
    if (length < 1 || length > ANSWER_MAX) return errno = EPROTO, -1;
    char *data = malloc(length);
    if (!data) abort();
    if (read_all(fd, data, length)) return -1;
    return write_all(STDOUT_FILENO, data + 1, length - 1) ? 2 : (unsigned char)data[0];
}

static int version(void) {
    printf("{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[%s]}\n", VERSIONS);
    return fflush(stdout) ? 2 : 0;
}

/* The request, in a file that appears whole or not at all, for the agent to replay. */
static int leave_tombstone(const char *socket_path, const struct buffer *request) {
    char folder[4096], final[4200], temporary[4216];
    struct timespec now;
    snprintf(folder, sizeof folder, "%s", socket_path);
    char *slash = strrchr(folder, '/');
    if (!slash) return errno = EINVAL, -1;
    *slash = 0;
    if (*folder && mkdir(folder, 0700) && errno != EEXIST) return -1;
    strncat(folder, "/tombstones", sizeof folder - strlen(folder) - 1);
    if (mkdir(folder, 0700) && errno != EEXIST) return -1;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(final, sizeof final, "%s/%lld.%09ld-%d.del", folder, (long long)now.tv_sec, now.tv_nsec, (int)getpid());
    snprintf(temporary, sizeof temporary, "%s.tmp", final);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    int failed = write_all(fd, request->data, request->length);
    if (close(fd)) failed = -1;
    if (!failed) failed = rename(temporary, final);
    if (failed) unlink(temporary);
    return failed;
}

static int without_agent(const char *command, const char *socket_path, const struct buffer *request, int reason) {
    char details[4400];
    snprintf(details, sizeof details, "%s: %s; is tortie-agent running on this node?", socket_path, strerror(reason));
    if (!strcmp(command, "STATUS")) return fail(NOT_AVAILABLE, "the tortie agent can't be reached", details);
    if (strcmp(command, "DEL")) return fail(TRY_AGAIN_LATER, "the tortie agent can't be reached", details);
    if (!*env("CNI_CONTAINERID") || !*env("CNI_IFNAME"))
        return fail(BAD_ENVIRONMENT, "required env variables CNI_CONTAINERID and CNI_IFNAME missing", details);
    if (!leave_tombstone(socket_path, request)) return 0;
    snprintf(details, sizeof details, "tombstones beside %s: %s", socket_path, strerror(errno));
    return fail(TRY_AGAIN_LATER, "the tortie agent can't be reached, and no tombstone could be left", details);
}

int main(int argc, char **argv) {
    const char *slash = argc ? strrchr(argv[0], '/') : NULL, *program = slash ? slash + 1 : argc ? argv[0] : "tortie";
    const char *command = env("CNI_COMMAND"), *path = *env("TORTIE_CNI_SOCKET") ? env("TORTIE_CNI_SOCKET") : DEFAULT_SOCKET;
    if (!*command) {
        fprintf(stderr, "%s: a CNI plugin, carried out by tortie-agent\nCNI protocol versions supported: %s\n", program, VERSIONS);
        return 0;
    }
    if (!strcmp(command, "VERSION")) return version();

    struct buffer request = {0};
    for (char **variable = environ; *variable; variable++)
        if (!strncmp(*variable, "CNI_", 4)) append(&request, *variable, strlen(*variable) + 1);
    add_variable(&request, "TORTIE_PROGRAM", program);

    int netns = -1, netlink = -1, inside = !strcmp(command, "ADD") || !strcmp(command, "CHECK");
    if (inside && *env("CNI_NETNS")) {
        const char *wrong = enter(env("CNI_NETNS"), &netns, &netlink);
        if (wrong) add_variable(&request, "TORTIE_NETNS_ERROR", wrong);
    }
    append(&request, "", 1);
    if (read_stdin(&request)) return fail(IO_FAILURE, "standard input can't be read", strerror(errno));

    int wait_s = !strcmp(command, "DEL") ? WAIT_DEL_S : !strcmp(command, "STATUS") ? WAIT_STATUS_S : WAIT_S;
    int fd = connect_to(path, wait_s), status = -1;
    if (fd >= 0 && !send_request(fd, &request, netns, netlink)) status = answer(fd);
    return status >= 0 ? status : without_agent(command, path, &request, errno);
}
