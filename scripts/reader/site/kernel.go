package site

import "reverseproxy/internal/book"

// kernelText says what the kernel does at a row: a few short paragraphs, and what is
// different about Go's way to ask for it.
type kernelText struct {
	Does []string // what the kernel does
	Go   string   // what Go does differently, "" if nothing
}

// kernelTexts holds the rows that are the same in every chapter.
var kernelTexts = map[book.Row]kernelText{
	{Step: 1}: {
		Does: []string{
			"Makes a socket: a TCP control block without addresses, two empty buffers, and the " +
				"lowest free number in the process's table of descriptors. No packet is sent.",
		},
		Go: "The same call also sets SOCK_CLOEXEC and SOCK_NONBLOCK; then comes SO_REUSEADDR, so " +
			"that a restart finds the port free.",
	},
	{Step: 2}: {
		Does: []string{
			"Enters address and port in the table of bound ports. EADDRINUSE if another socket " +
				"listens there.",
			"Also if a connection of the last run is still in TIME_WAIT (60 s), unless that run " +
				"and this one both set SO_REUSEADDR. C never does, so it cannot be restarted at " +
				"once, nor can Go behind C.",
		},
		Go: "Binds 127.0.0.1, this machine only; C binds INADDR_ANY, every interface.",
	},
	{Step: 3}: {
		Does: []string{
			"Makes the socket passive. From now on the kernel answers by itself: SYN → SYN-ACK. " +
				"A half-open connection waits as a request in the SYN queue; after the client's " +
				"ACK it stands in the accept queue.",
			"The backlog bounds the accept queue. When it is full, a SYN is dropped, and the " +
				"client's kernel sends it again after 1, 2, 3, 4, 5, 7, … s (before Linux 6.5: " +
				"1, 3, 7, …).",
		},
		Go: "Asks for the largest backlog allowed (net.core.somaxconn, 4096); C for 5 or 10.",
	},
	{Step: 4}: {
		Does: []string{
			"Takes the oldest connection out of the accept queue and gives it a new descriptor. " +
				"Its handshake is long over; bytes of the request may already wait in the " +
				"receive buffer.",
			"Queue empty: the C program sleeps in the kernel until a handshake completes.",
		},
		Go: "The socket does not block: accept4 says EAGAIN, the goroutine is parked, its thread " +
			"runs others. A thread with nothing to run asks epoll, which reports when the queue " +
			"has something; there is no thread for that alone.",
	},
	{Step: 5}: {
		Does: []string{
			"Copies what has arrived from the receive buffer, at most as much as asked for. TCP " +
				"carries bytes, not messages: one read may return half a request.",
			"Buffer empty: wait. 0: the peer has sent FIN. Room in the buffer opens the window " +
				"that the next ACK announces.",
		},
		Go: "Reads until the header is complete; EAGAIN parks the goroutine, as in step 4. The " +
			"deadline is a timer that wakes it.",
	},
	{Step: 6}: {
		Does: []string{
			"A second socket. connect picks a free local port (32768–60999) and sends SYN. The " +
				"backend's kernel answers SYN-ACK if a socket listens there, even while the " +
				"program is busy; RST if none does: ECONNREFUSED.",
			"No answer at all: SYN is repeated after 1, 2, 3, 4, 5, 7, 11, … s, for two minutes " +
				"(before Linux 6.5: 1, 3, 7, 15, …).",
		},
		Go: "connect says EINPROGRESS; epoll reports when the socket can be written to. The " +
			"connect timeout ends the wait.",
	},
	{Step: 7}: {
		Does: []string{
			"Copies the bytes into the send buffer and returns: that is not delivery. TCP sends " +
				"them as the peer's window and the network allow, and keeps them until they are " +
				"acknowledged.",
			"Buffer full: write waits. Peer gone (RST): ECONNRESET once; after that, or if the " +
				"peer had sent FIN before, EPIPE and the signal SIGPIPE, which ends a C program " +
				"that does not handle it.",
		},
		Go: "A partial write is continued until all is taken; a broken connection is an error " +
			"value, not a signal.",
	},
	{Step: 8}: {
		Does: []string{
			"Each read returns what has arrived so far. 0 means FIN: the backend has closed its " +
				"side.",
			"A backend that keeps connections open sends no FIN after its answer: a loop that " +
				"reads until 0 waits for that backend's idle timeout.",
		},
		Go: "Reads as far as the message's own framing says (Content-Length or chunks), so no " +
			"FIN is needed.",
	},
	{Step: 9}: {
		Does: []string{
			"Copies the answer into the client socket's send buffer. A slow client closes its " +
				"window, the buffer fills, write waits. As long as the proxy does not read on, " +
				"the backend's buffers fill too: backpressure.",
		},
		Go: "The body passes piece by piece through a buffer of fixed size, so an answer of any " +
			"size takes the same memory.",
	},
	{Step: 10}: {
		Does: []string{
			"Gives the descriptor back. At the last reference the kernel sends what is still in " +
				"the send buffer, then FIN. The side that closes first keeps the pair of ports " +
				"in TIME_WAIT for 60 s.",
			"Unread bytes in the receive buffer: RST instead of FIN, and the peer may lose the " +
				"end of the answer.",
		},
	},
}

// chapterKernelTexts holds what is particular to a chapter.
var chapterKernelTexts = map[string]map[book.Row]kernelText{
	"ch1_base": {
		{Step: 1}: {
			Does: []string{
				"Makes a socket: a TCP control block without addresses, two empty buffers, and " +
					"the lowest free number in the process's table of descriptors. No packet is " +
					"sent.",
			},
			Go: "Package syscall makes the same call, nothing added: the socket blocks, as in C.",
		},
		{Step: 2}: {
			Does: []string{
				"Enters address and port in the table of bound ports. EADDRINUSE if another " +
					"socket listens there, or if a connection of the last run is still in " +
					"TIME_WAIT (60 s), unless both runs set SO_REUSEADDR.",
			},
		},
		{Step: 3}: {
			Does: []string{
				"Makes the socket passive: from now on the kernel answers SYN with SYN-ACK by " +
					"itself and queues connections for accept.",
				"Base.c leaves this call out. A SYN to its port is answered with RST, and accept " +
					"fails at once: EINVAL, “Invalid argument”.",
			},
			Go: "-skip-listen leaves the call out as C does.",
		},
		{Step: 4}: {
			Does: []string{
				"Takes the oldest connection out of the accept queue and gives it a new " +
					"descriptor. Queue empty: the thread sleeps in the kernel until a handshake " +
					"completes.",
			},
			Go: "A blocking system call: the goroutine keeps its thread until the call returns, " +
				"exactly as in C.",
		},
		{Step: 5}: {
			Does: []string{
				"Copies what has arrived from the receive buffer, at most as much as asked for. " +
					"Buffer empty: wait. 0: the peer has sent FIN.",
			},
			Go: "One read, as in C: half a request is possible here.",
		},
	},
	"ch3_process_model": {
		{Step: 4, Extra: 1}: {
			Does: []string{
				"fork is clone(2): a new process with a copy of the page tables and of the " +
					"descriptor table. Memory is shared and marked read-only; the first write to " +
					"a page copies it (copy-on-write).",
				"Both processes hold the client's socket now. The connection ends only when both " +
					"have closed it.",
			},
			Go: "A Go program has many threads and fork copies only one of them, so os/exec " +
				"starts the program anew: clone(CLONE_VM|CLONE_VFORK), then execve. The socket " +
				"is passed as descriptor 3.",
		},
		{Step: 10, Extra: 1}: {
			Does: []string{
				"exit_group ends the process: its descriptors are closed, its memory is given " +
					"back, and the parent is told by SIGCHLD. What is left is its exit status.",
			},
		},
		{Step: 10, Extra: 2}: {
			Does: []string{
				"Drops the parent's reference: the child's is the last. Left out, the client " +
					"would never see FIN, and the parent would run out of descriptors.",
				"The child's end sends SIGCHLD. Until the parent asks for the exit status " +
					"(wait4), a zombie remains: a pid and a status. C never asks.",
			},
			Go: "cmd.Wait asks; no zombie is left. A socket that the parent forgot would be " +
				"closed by the garbage collector, some day.",
		},
	},
	"ch4_threaded": {
		{Step: 4, Extra: 1}: {
			Does: []string{
				"pthread_create is clone(2) with CLONE_VM and CLONE_FILES: a new task for the " +
					"scheduler in the same address space, with the same descriptors. Its stack " +
					"is 8 MiB of address space; only touched pages cost memory.",
				"pthread_detach is no system call: the library frees the stack when the thread " +
					"ends.",
			},
			Go: "The go statement is no system call either: a stack of a few KiB from the heap " +
				"and a place in a run queue. At most GOMAXPROCS threads run goroutines at a time.",
		},
	},
	"ch10_event_loop": {
		{Step: 4}: {
			Does: []string{
				"epoll_wait has returned the listening socket: somebody is in its queue. " +
					"accept4 takes a client out; EAGAIN says that the queue is empty.",
				"epoll_ctl puts the new socket on epoll's list, once, for both directions. It " +
					"is edge-triggered (EPOLLET): the kernel tells of each change, not of what " +
					"is still so.",
			},
		},
		{Step: 5}: {
			Does: []string{
				"Copies what has arrived and returns. Nothing there: EAGAIN. The function " +
					"returns nil, and the thread serves others.",
				"When more arrives, the kernel marks the socket as ready, and the next " +
					"epoll_wait returns it, with all others that are ready.",
			},
		},
		{Step: 6}: {
			Does: []string{
				"connect sends SYN and returns EINPROGRESS. The backend's SYN-ACK makes the " +
					"socket writable, an RST makes it fail: both are events.",
			},
		},
		{Step: 7}: {
			Does: []string{
				"Copies into the send buffer what it has room for. What is left stays with the " +
					"connection until the peer has acknowledged some: then the socket is " +
					"writable, an event.",
			},
		},
		{Step: 8}: {
			Does: []string{
				"Copies what has arrived, as in step 5. While the backend works, this " +
					"connection costs no thread and no stack, only what it holds of its " +
					"messages.",
			},
		},
		{Step: 9}: {
			Does: []string{
				"A slow client's send buffer is full: EAGAIN. As long as the loop does not read " +
					"on from the backend, the backend's buffers fill too: backpressure, and " +
					"nobody waits in a call.",
			},
		},
		{Step: 10}: {
			Does: []string{
				"close takes the socket off epoll's list, too. A backend's connection that is " +
					"kept stays on the list: its FIN is an event, so it is known at once.",
			},
		},
	},
	"ch5_load_balancer": {
		{Step: 4, Extra: 1}: {
			Does: []string{
				"C starts nothing here: it serves one client at a time, and the others wait in " +
					"the accept queue.",
			},
			Go: "No system call: a stack of a few KiB and a place in a run queue.",
		},
		{Step: 5, Extra: 1}: {
			Does: []string{
				"Nothing: the choice is made in the program's own memory. In C a static index, " +
					"advanced modulo 3.",
			},
			Go: "Goroutines choose at the same time, so each must get its own turn.",
		},
	},
}

// kernelFor returns the text of a row.
func kernelFor(dir string, row book.Row) kernelText {
	if t, ok := chapterKernelTexts[dir][row]; ok {
		return t
	}
	return kernelTexts[row]
}
