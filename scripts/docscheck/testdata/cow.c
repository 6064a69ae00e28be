/* Counts the page faults of a child after fork: when it reads its parent's
   memory, and when it writes to it (copy-on-write). */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { pages = 1000, page = 4096 };

static long faults(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_minflt;
}

int main(void)
{
    volatile char *memory = mmap(NULL, pages * page, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)memory, pages * page, MADV_NOHUGEPAGE);
    for (int i = 0; i < pages; i++)
        memory[i * page] = 1;
    if (fork() == 0) {
        long before = faults(), sum = 0;
        for (int i = 0; i < pages; i++)
            sum += memory[i * page];
        printf("reads %ld pages: %ld faults\n", sum, faults() - before);
        before = faults();
        for (int i = 0; i < pages; i++)
            memory[i * page] = 2;
        printf("writes %d pages: %ld faults\n", pages, faults() - before);
        exit(0);
    }
    wait(NULL);
}
