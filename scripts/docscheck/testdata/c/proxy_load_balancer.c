#include "proxy.h"

int main(void)
{
    const int ports[] = {8000, 8001, 8002};
    int server = listening(8080, 10);
    for (int turn = 0;; turn = (turn + 1) % 3)
        serve(accept(server, NULL, NULL), ports[turn]);
}
