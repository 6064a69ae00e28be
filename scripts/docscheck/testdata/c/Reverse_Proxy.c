#include "proxy.h"

int main(void)
{
    serve(accept(listening(8080, 10), NULL, NULL), 8000);
}
