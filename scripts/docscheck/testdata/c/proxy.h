/* What the stand-ins for the five C programs share. They are written for docscheck
   from the list in docs/what_c_leaves_open.md, make the mistakes named there, and
   hold no line of the originals. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* tcp makes a socket and fills in an address. */
static int tcp(struct sockaddr_in *to, const char *host, int port)
{
    *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    to->sin_addr.s_addr = inet_addr(host);
    return socket(AF_INET, SOCK_STREAM, 0);
}

/* bound makes a socket that is bound to a port of every interface. */
static int bound(int port)
{
    struct sockaddr_in own;
    int server = tcp(&own, "0.0.0.0", port);
    if (bind(server, (struct sockaddr *)&own, sizeof own) < 0) {
        perror("Bind failed");
        exit(1);
    }
    return server;
}

/* listening makes one that listens. */
static inline int listening(int port, int backlog)
{
    int server = bound(port);
    listen(server, backlog);
    return server;
}

/* serve reads a request once, and an answer until the backend closes or the
   buffer is full. */
static inline void serve(int client, int port)
{
    char bytes[4095];
    struct sockaddr_in to;
    ssize_t n, size = read(client, bytes, sizeof bytes);
    write(STDOUT_FILENO, bytes, size);
    int backend = tcp(&to, "127.0.0.1", port);
    if (connect(backend, (struct sockaddr *)&to, sizeof to) == 0) {
        write(backend, bytes, size);
        for (size = 0; (n = read(backend, bytes + size, sizeof bytes - size)) > 0;)
            size += n;
        write(client, bytes, size);
    }
    close(backend);
    close(client);
}
