/* tortie, tortie-ipam: what a container runtime executes.
 *
 * It carries one CNI call to the agent's unix socket and the answer back: the CNI_* environment, standard input, and
 * for ADD and CHECK descriptors (SCM_RIGHTS): the pod's network namespace, a netlink socket opened inside it, and, where
 * the configuration speaks of allow_ip_forwarding, the two files in /proc/sys/net that say so inside. The runtime runs
 * this program as root; with these the agent can configure the pod with CAP_NET_ADMIN alone.
 *
 * Request:  u32 length (host order), then length bytes: "NAME=value\0"..., "\0", standard input.
 * Answer:   u32 length, then length bytes: exit status (one byte), standard output.
 *
 * VERSION is always answered here, and a wrong environment refused. With no agent: STATUS is 50, DEL leaves a tombstone
 * (the same request in a file beside the socket, which the agent replays) and succeeds, anything else is 11, try again
 * later.
 *
 * Sources: CNI SPEC 1.1.0 (sections 2 and 5), unix(7), setns(2); the order of checks is pkg/skel's. */
#define _GNU_SOURCE
#ifndef PROTOCOL
#define PROTOCOL "1" /* of the frame; cni/request.py has the agent's, and says what an agent does with another */
#endif
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
enum { REQUEST_MAX = 16 << 20, ANSWER_MAX = 16 << 20, WAIT_S = 180, WAIT_DEL_S = 20, WAIT_STATUS_S = 2, FDS_MAX = 4 };

static const char *const DEFAULT_SOCKET = "/run/tortie/cni.sock";
static const char *const VERSIONS[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
enum { VERSION_COUNT = sizeof VERSIONS / sizeof *VERSIONS };
static const char *const REQUIRED[][5] = {
    {"ADD", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"}, {"CHECK", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"},
    {"DEL", "CNI_CONTAINERID", "CNI_IFNAME"}, {"GC"}, {"STATUS"}};
static const char *version = "1.1.0"; /* in which errors are told: the configuration's, once that is read */

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
        else if (*c >= 0x7f) putchar('?'); /* it may be no UTF-8, and JSON is */
        else if (*c < 0x20) printf("\\u%04x", *c);
        else putchar(*c);
    }
}

static int fail(int code, const char *message, const char *details) {
    printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"", version, code);
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

/* The value of cniVersion in the outermost object of a JSON text, if it is one of ours. */
static void find_version(const char *text, size_t length) {
    int depth = 0;
    for (const char *c = text, *end = text + length; c < end; c++) {
        if (*c == '{' || *c == '[') depth++;
        if (*c == '}' || *c == ']') depth--;
        if (*c != '"') continue;
        const char *word = ++c;
        while (c < end && *c != '"') c += *c == '\\' ? 2 : 1;
        if (depth != 1 || c >= end || c - word != 10 || memcmp(word, "cniVersion", 10)) continue;
        while (++c < end && strchr(" \t\r\n:", *c)) {}
        for (int i = 0; i < VERSION_COUNT; i++)
            if (end - c > 7 && *c == '"' && !memcmp(c + 1, VERSIONS[i], 5) && c[6] == '"') version = VERSIONS[i];
        return;
    }
}

static int is_container_id(const char *id) {
    const char *c = id;
    for (; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", *c) && (c == id || !strchr("_.-", *c)))
            return 0;
    return 1;
}

static int is_interface(const char *name) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.@"; /* the agent's too */
    size_t length = strlen(name);
    return length < 16 && strspn(name, allowed) == length && strcmp(name, ".") && strcmp(name, "..");
}

/* 0, or what `fail` gave: the command and its variables, before anything else is looked at. */
static int check_environment(const char *command) {
    char missing[128] = "";
    size_t row = 0;
    while (row < sizeof REQUIRED / sizeof *REQUIRED && strcmp(command, REQUIRED[row][0])) row++;
    if (row == sizeof REQUIRED / sizeof *REQUIRED) return fail(BAD_ENVIRONMENT, "unknown CNI_COMMAND", command);
    for (const char *const *name = REQUIRED[row] + 1; *name; name++)
        if (!*env(*name)) sprintf(missing + strlen(missing), "%s%s", *missing ? "," : "", *name);
    if (*missing) {
        char message[192];
        snprintf(message, sizeof message, "required env variables [%s] missing", missing);
        return fail(BAD_ENVIRONMENT, message, "");
    }
    if (!is_container_id(env("CNI_CONTAINERID")))
        return fail(BAD_ENVIRONMENT, "CNI_CONTAINERID has characters that are not allowed", env("CNI_CONTAINERID"));
    if (!is_interface(env("CNI_IFNAME"))) return fail(BAD_ENVIRONMENT, "CNI_IFNAME is no interface's name", env("CNI_IFNAME"));
    return 0;
}

/* A netlink socket inside the namespace; this process is in it from then on, which a unix socket's path doesn't mind.
 * Returns NULL, or what was wrong with the namespace. */
static const char *enter(const char *path, int forwarding, int *fds, int *count) {
    static const char *const SETTINGS[] = {"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"};
    int netns = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (netns < 0) return strerror(errno);
    if (setns(netns, CLONE_NEWNET)) return errno == EINVAL ? "not a network namespace" : strerror(errno);
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
    if (netlink < 0) return strerror(errno);
    fds[0] = netns, fds[1] = netlink, *count = 2;
    for (int i = 0; forwarding && i < 2; i++)
        if ((fds[*count] = open(SETTINGS[i], O_WRONLY | O_CLOEXEC)) >= 0) ++*count; /* a kernel may lack IPv6 */
    return NULL;
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

/* The descriptors go with the first bytes. Small requests go whole in one message: the agent wakes once. */
static int send_request(int fd, const struct buffer *request, const int *fds, int count) {
    uint32_t length = (uint32_t)request->length;
    struct iovec parts[] = {{&length, sizeof length}, {request->data, request->length}};
    union {
        char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (count) {
        message.msg_control = control.space, message.msg_controllen = CMSG_SPACE((size_t)count * sizeof *fds);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)count * sizeof *fds);
        memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof *fds);
    }
    ssize_t first = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (first < (ssize_t)sizeof length) return -1;
    for (size_t sent = (size_t)first - sizeof length; sent < request->length;) {
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

static int tell_versions(void) {
    printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[", version);
    for (int i = 0; i < VERSION_COUNT; i++) printf("%s\"%s\"", i ? "," : "", VERSIONS[i]);
    printf("]}\n");
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
    if (!leave_tombstone(socket_path, request)) return 0;
    snprintf(details, sizeof details, "tombstones beside %s: %s", socket_path, strerror(errno));
    return fail(TRY_AGAIN_LATER, "the tortie agent can't be reached, and no tombstone could be left", details);
}

int main(int argc, char **argv) {
    const char *slash = argc ? strrchr(argv[0], '/') : NULL, *program = slash ? slash + 1 : argc ? argv[0] : "tortie";
    const char *command = env("CNI_COMMAND"), *path = *env("TORTIE_CNI_SOCKET") ? env("TORTIE_CNI_SOCKET") : DEFAULT_SOCKET;
    if (!*command) {
        fprintf(stderr, "%s: a CNI plugin, carried out by tortie-agent\nCNI protocol versions supported:", program);
        for (int i = 0; i < VERSION_COUNT; i++) fprintf(stderr, "%s %s", i ? "," : "", VERSIONS[i]);
        fputc('\n', stderr);
        return 0;
    }
    if (!strcmp(command, "VERSION")) return tell_versions();
    if (check_environment(command)) return 1;

    struct buffer request = {0};
    for (char **variable = environ; *variable; variable++)
        if (!strncmp(*variable, "CNI_", 4)) append(&request, *variable, strlen(*variable) + 1);
    add_variable(&request, "TORTIE_PROGRAM", program);
    add_variable(&request, "TORTIE_RELAY", PROTOCOL);

    struct buffer stdin_text = {0};
    if (read_stdin(&stdin_text)) return fail(IO_FAILURE, "standard input can't be read", strerror(errno));
    append(&stdin_text, "", 1);
    find_version(stdin_text.data, stdin_text.length);

    int fds[FDS_MAX], count = 0;
    if (!strcmp(command, "ADD") || !strcmp(command, "CHECK")) {
        const char *wrong = enter(env("CNI_NETNS"), !!strstr(stdin_text.data, "allow_ip_forwarding"), fds, &count);
        if (wrong) add_variable(&request, "TORTIE_NETNS_ERROR", wrong);
    }
    append(&request, "", 1);
    append(&request, stdin_text.data, stdin_text.length - 1);

    int wait_s = !strcmp(command, "DEL") ? WAIT_DEL_S : !strcmp(command, "STATUS") ? WAIT_STATUS_S : WAIT_S;
    int fd = connect_to(path, wait_s), status = -1;
    if (fd >= 0 && !send_request(fd, &request, fds, count)) status = answer(fd);
    return status >= 0 ? status : without_agent(command, path, &request, errno);
}
