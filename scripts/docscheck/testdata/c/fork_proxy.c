#include "proxy.h"

int main(void)
{
    int server = listening(8080, 5);
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (fork() == 0) {
            serve(client, 8000);
            exit(0);
        }
        close(client);
    }
}
