#include "proxy.h"

int main(void)
{
    if (accept(bound(8080), NULL, NULL) < 0)
        perror("Accept failed");
    return 1;
}
