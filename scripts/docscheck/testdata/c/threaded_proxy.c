#include "proxy.h"

static void *worker(void *client)
{
    serve((intptr_t)client, 8000);
    return NULL;
}

int main(void)
{
    int server = listening(8080, 10);
    for (;;) {
        pthread_t thread;
        intptr_t client = accept(server, NULL, NULL);
        pthread_create(&thread, NULL, worker, (void *)client);
        pthread_detach(thread);
    }
}
