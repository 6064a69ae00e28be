package cases

import (
	"slices"
	"strings"
)

// Stage is one step on the path from a program that answers one client to a proxy with
// all that the chapters have.
type Stage struct {
	Name  string
	Goal  string // in a sentence
	Page  string // what to read first, a file in docs
	Steps []Step
	Drill bool // scripts/drill -dead is run instead of cases
}

// Step is some cases of a stage, with what helps whoever fails them.
type Step struct {
	IDs  string // with blanks between
	Hint string
}

// Cases returns the cases of the stage, in the order in which they are run.
func (s *Stage) Cases() (all []Case) {
	for _, step := range s.Steps {
		for _, id := range strings.Fields(step.IDs) {
			if c := Find(id); c != nil {
				all = append(all, *c)
			}
		}
	}
	return all
}

// Hint returns what helps whoever fails the case.
func (s *Stage) Hint(id string) string {
	for _, step := range s.Steps {
		if slices.Contains(strings.Fields(step.IDs), id) {
			return step.Hint
		}
	}
	return ""
}

// Find returns the case of that id, those of the stages included; nil: there is none.
func Find(id string) *Case {
	for _, c := range slices.Concat(registry, stageCases) {
		if c.ID == id {
			return &c
		}
	}
	return nil
}

// OfStages is the group of the cases that only the stages have.
const OfStages = "stages"

// stageCases are for beginners alone: every proxy passes them, and the scoreboard does
// not count them.
var stageCases = group(OfStages,
	Case{ID: "answer-get", Level: Must, RFC: "RFC 9112 §2.1",
		Why: "A client that sends a GET reads a whole HTTP response with status 200: a status " +
			"line, fields, an empty line, a body.",
		Run: func(t *T) {
			t.Answer(Reply(200, "hello from the backend"))
			t.Whole(t.Do(t.Get("hello"), "GET"), 200)
		}},
	Case{ID: "answer-pieces", Level: Must, RFC: "RFC 9112 §2.2",
		Why: "The request has ended when its empty line has come: not before, however many reads " +
			"that takes, and not when the client closes: it keeps its connection open and waits " +
			"for the answer.",
		Run: func(t *T) {
			t.Answer(Reply(200, "hello from the backend"))
			c := t.Dial()
			request := t.Get("hello")
			end := len(request) - len("\r\n")
			c.SendPieces(request[:end], 40)
			c.Wait(quietClient, t.Done, func(b []byte) bool { return len(b) > 0 })
			if n, _ := c.State(); n > 0 {
				t.Fatalf("the answer came before the request's empty line")
			}
			c.Send(request[end:])
			t.Whole(c.Final("GET"), 200)
		}},
)

// Stages is the path. Each stage asks only for what the pages up to its own teach.
var Stages = []Stage{
	{Name: "Answer a GET", Page: "ch1_base.md",
		Goal: "The program listens, accepts a client, reads its request and answers with any " +
			"page, status 200.",
		Steps: []Step{
			{"answer-get answer-pieces", "Read again and again until what you have contains " +
				`\r\n\r\n, and not longer: the client waits, its connection stays open. Then ` +
				"write a status line (HTTP/1.1 200 OK), a line Content-Length: 5, an empty line " +
				`and the five bytes hello, and close. Every line ends in \r\n, not in \n alone.`},
		}},
	{Name: "Forward it", Page: "ch2_basic_proxy.md",
		Goal: "The request goes to the backend as the client sent it, and the backend's answer " +
			"to the client as the backend sent it.",
		Steps: []Step{
			{"basic-get", "For each client: connect to the backend's address, write the request " +
				"there, read the answer until the backend closes, write it to the client."},
			{"basic-query basic-percent", "Copy the bytes of the request line as they are. Do " +
				"not decode, tidy or rebuild the path."},
			{"basic-status basic-response-fields basic-set-cookie", "Copy the bytes of the " +
				"answer as they are, its status line and every field."},
			{"basic-request-fields host-one", "Copy every field of the request as it is, in its " +
				"order; fields with the same name stay several."},
		}},
	{Name: "Whole messages", Page: "ch2_basic_proxy.md",
		Goal: "A message is whole when the empty line and then Content-Length bytes have come, " +
			"in as many reads as it takes, in both directions.",
		Steps: []Step{
			{"req-length basic-methods", "After the empty line read as many bytes as " +
				"Content-Length says, and write them to the backend, too. What came in the same " +
				"read as the head is the beginning of the body."},
			{"req-pieces req-head-then-body", "Read in a loop until the empty line is there, " +
				"then in a loop until the body is. Count what came behind the empty line " +
				"already."},
			{"req-length-zero req-no-body", "Without Content-Length, or with 0, a request has no " +
				"body: do not read for one."},
			{"req-20000 req-1mib basic-binary", "One write may take only a part of the bytes " +
				"(Python: sendall, not send). Bodies are bytes: do not decode them, and do not " +
				"search them for zeros or line ends."},
			{"resp-length resp-20000 resp-1mib resp-pieces resp-empty", "Read the answer in a " +
				"loop, too: its head up to the empty line, then Content-Length bytes."},
			{"resp-held-length resp-held-empty", "Do not wait for the backend to close. When " +
				"Content-Length bytes of the body have come, the answer is whole: write it, and " +
				"close both connections."},
		}},
	{Name: "One client after another", Page: "ch2_basic_proxy.md",
		Goal: "The program serves the next client when one has gone, however that one has gone.",
		Steps: []Step{
			{"process-lives", "Put accept and all that follows into an endless loop. An error " +
				"with one client must not end the program: catch it, close both connections, go " +
				"on."},
			{"close-honoured basic-once", "After the answer close the backend's connection and " +
				"the client's, in every case (Python: with, or try … finally). One request is " +
				"forwarded once."},
			{"abort-silent-visitor", "Connect to the backend only when the whole head of a " +
				"request is there. A read that returns 0 bytes means: the client has closed."},
			{"abort-survives", "Writing to a client that has left fails (EPIPE, ECONNRESET). " +
				"Catch that for this client, close what is open, and accept the next (there may " +
				"be no connection to the backend yet). In C ignore SIGPIPE. A read that returns " +
				"0 bytes in the middle of a body is the end, too."},
		}},
	{Name: "Chunks, and no body at all", Page: "ch2_basic_proxy.md",
		Goal: "The end of a message is found in all its forms: chunks, the backend's close, " +
			"and answers that never have a body.",
		Steps: []Step{
			{"req-chunked req-chunk-hex req-chunk-upper req-chunked-1mib", "With " +
				"Transfer-Encoding: chunked read a line (a size in hexadecimal), so many bytes, " +
				`a \r\n, and so on up to the size 0 and an empty line. You may pass these bytes ` +
				"on as they are."},
			{"req-chunk-extension req-chunk-pieces", "Of the size line only what stands before " +
				"a semicolon is the size. A line may come in two reads."},
			{"req-field-case req-field-space", "Compare field names and the word chunked in " +
				"lower case, and strip blanks and tabs around values."},
			{"resp-chunked resp-chunk-extension resp-chunk-pieces resp-chunked-1mib " +
				"resp-held-chunked trailer-response-body", "Answers are read as requests are: " +
				"the chunk of size 0, the lines after it (trailers) and an empty line end the " +
				"body, although the backend keeps its connection open."},
			{"resp-close", "An answer with neither Content-Length nor chunks ends when the " +
				"backend closes."},
			{"head-length head-chunked status-204 status-304-length", "The answer to HEAD, and " +
				"204 and 304, have no body, whatever their fields say: do not read for one."},
		}},
	{Name: "The proxy's own fields", Page: "ch2_basic_proxy.md",
		Goal: "What belongs to one connection is taken out of the head, and the proxy says who " +
			"it is and for whom it asks.",
		Steps: []Step{
			{"hop-connection-names hop-connection-case hop-connection-two", "Take out Connection " +
				"and every field that it names, in any case. There may be several Connection " +
				"fields, each a list with commas."},
			{"hop-request", "Take out Keep-Alive, Proxy-Connection and TE as well."},
			{"hop-response-names hop-response", "Do the same with the backend's answer."},
			{"close-announced basic-http-version", "Write the status line with HTTP/1.1 " +
				"yourself, and put Connection: close into each answer as long as you close " +
				"after it."},
			{"via-request via-appended", "Add Via: 1.1 and a name of your own, after any Via " +
				"that is there."},
			{"xff-added", "Add X-Forwarded-For with the client's address, without the port."},
			{"host-one", "Exactly one Host goes to the backend."},
		}},
	{Name: "Refuse what is not HTTP", Page: "ch2_basic_proxy.md",
		Goal: "A request that two programs could read in two ways is answered with 400 and " +
			"reaches no backend.",
		Steps: []Step{
			{"error-400-answered smuggle-line-version smuggle-line-space", "The request line has " +
				"exactly three words, and the last is HTTP/1.1 or HTTP/1.0. Anything else: " +
				"answer 400 Bad Request, close."},
			{"smuggle-host-none smuggle-host-two", "HTTP/1.1 without Host, or with two: 400."},
			{"smuggle-space-colon smuggle-no-colon smuggle-obs-fold smuggle-name-space", "Each " +
				"field is a name, at once a colon, a value. A line that begins with a blank, has " +
				"no colon, or has a blank in or behind the name: 400."},
			{"smuggle-bare-cr smuggle-nul smuggle-bare-lf", `Lines end in \r\n. A lone \r, a ` +
				`lone \n or a zero byte in the head: 400. Look at each line's end as it comes: a ` +
				`head of lone \n never has the empty line that you wait for.`},
			{"smuggle-cl-differ smuggle-cl-list smuggle-cl-plus smuggle-cl-minus smuggle-cl-junk " +
				"smuggle-cl-empty", "Content-Length is digits and nothing else, and stands there " +
				"once (check it yourself: Python's int takes +5, C's atoi takes 5x). Else 400."},
			{"smuggle-cl-te smuggle-te-cl smuggle-te-unknown smuggle-te-not-final",
				"Transfer-Encoding is exactly chunked, in any case, and there is no " +
					"Content-Length beside it. Else 400 (or 501 for a coding you do not know)."},
			{"smuggle-chunk-junk smuggle-chunk-plus smuggle-chunk-minus smuggle-chunk-hex-prefix " +
				"smuggle-chunk-overrun smuggle-chunk-empty",
				"Read the chunks' sizes strictly: hexadecimal digits and nothing else (check it " +
					"yourself: Python's int takes +5 and 0x5), and right after the data " +
					`\r\n. Else answer 400, or close without the end of the body.`},
			{"smuggle-after-400 smuggle-partial-head", "After a 400 close: what follows on that " +
				"connection is no request. Half a head, and then the end, is none either."},
			{"abort-upload abort-upload-chunked", "When the client leaves in the middle of its " +
				"body, close the backend's connection. Never add an end that did not come."},
		}},
	{Name: "When the backend fails", Page: "ch2_basic_proxy.md",
		Goal: "The client is told 502, at once, and half an answer never looks whole.",
		Steps: []Step{
			{"error-refused error-body", "When connect fails, answer 502 Bad Gateway with a " +
				"short text of your own. Do not tell the client the backend's address."},
			{"error-head", "The answer to HEAD has no body, the proxy's own 502 neither."},
			{"error-recovers", "Connect anew for each request: the backend may be back."},
			{"abort-survives-backend", "An error with one backend connection must not end the " +
				"program: catch it, tell the client, close, go on."},
			{"abort-close-silent abort-reset-silent abort-in-head", "When the backend closes " +
				"before its head is whole, nothing has gone to the client yet: answer 502."},
			{"abort-in-length abort-in-chunk abort-between-chunks", "When the backend closes in " +
				"the middle of a body, close the client's connection without sending the rest, " +
				"or an end (such as the chunk of size 0), that never came."},
			{"resp-garbage resp-status-garbage resp-lengths-differ resp-length-invalid " +
				"resp-bad-chunk-size", "Check the backend's answer as you check a request: a " +
				"status line HTTP/1.x and three digits, one Content-Length of digits. Else 502."},
		}},
	{Name: "Many clients at once", Page: "ch4_threaded.md",
		Goal: "A client that is slow, silent or far away delays nobody else.",
		Steps: []Step{
			{"free-silent-client free-slow-header free-slow-backend free-slow-upload " +
				"free-slow-reader", "Serve each client in a thread, a goroutine or a process of " +
				"its own, from accept on; the loop around accept does nothing else."},
			{"free-parallel free-100-idle burst-200", "Nothing that all clients share may be " +
				"held while one of them waits: no lock around a read. Give listen() a queue of " +
				"128 or more."},
			{"crosstalk-100 crosstalk-uploads", "Each client has buffers and variables of its " +
				"own. Nothing global, nothing static."},
			{"process-children process-descriptors", "Wait for children that have ended " +
				"(waitpid), and close each descriptor in every process that has it."},
		}},
	{Name: "Round robin", Page: "ch5_load_balancer.md",
		Goal: "Several backends, each in its turn; one that is slow or away does not stop the " +
			"others.",
		Steps: []Step{
			{"balance-all-used balance-even", "Keep an index; each request takes the backend at " +
				"it and moves it on by one. The proxy must know the addresses of all backends: " +
				"127.0.0.1:8000, 8001 and 8002, unless -backends names others."},
			{"balance-even-crowd", "Read the index and move it on in one step that no other " +
				"thread can come between: under a lock, or with an atomic add."},
			{"balance-refused balance-return", "While one backend refuses, answer 502 and give " +
				"the next request to the next one; keep the dead one in the list."},
			{"balance-slow-one balance-client-fault", "Hold no lock while you wait for a " +
				"backend. A client that leaves is no fault of its backend."},
		}},
	{Name: "Keep the client's connection", Page: "ch6_keep_alive.md",
		Goal: "A client sends several requests over one connection, and each answer is where it " +
			"belongs.",
		Steps: []Step{
			{"keep-alive-client keep-alive-post keep-alive-head", "After an answer whose end the " +
				"client can see, go back to reading a request instead of closing; leave out " +
				"Connection: close then. Bytes that came early are the next request's beginning."},
			{"pipelining-order pipelining-served", "What you have read beyond the end of a " +
				"request stays in the client's buffer. Answer in the order of the requests."},
			{"http10-keep-alive http10-closes", "An HTTP/1.0 client gets no chunks. Unless it " +
				"says keep-alive, and you say so too, close after the answer."},
			{"smuggle-after-close smuggle-body-request", "After Connection: close nothing more " +
				"is a request. A body is read to its end before the next request begins."},
		}},
	{Name: "Keep the backends' connections", Page: "ch6_keep_alive.md",
		Goal: "Idle connections to the backends are used again, and only when nothing is left " +
			"in them.",
		Steps: []Step{
			{"backend-reuse-kept", "When an answer has ended and the backend has not said " +
				"Connection: close, put its connection on a list; take one from there before you " +
				"connect."},
			{"backend-close-honoured", "Close what cannot be used again, and bound how many " +
				"are kept."},
			{"resp-extra-bytes pool-late-length pool-extra-chunked pool-extra-head pool-late-204",
				"Bytes that come when no answer is due make a connection useless. Look for them " +
					"before you put it on the list and before you take it from there."},
			{"backend-stale pool-idle-reset", "The backend may have closed meanwhile: look " +
				"before you use it (a read that would not block), and send a GET once more over " +
				"a new connection if nothing came."},
			{"pool-early-413", "An answer that comes before the request's body has been sent " +
				"ends the connection: the backend waits for the rest."},
			{"post-not-replayed-kept crosstalk-reuse", "Never send a POST a second time once it " +
				"may have been read. A connection is on the list, or somebody's, never both."},
			{"pool-own-backend", "Keep a list for each backend."},
		}},
	{Name: "Deadlines and another try", Page: "ch7_timeouts_retries.md",
		Goal: "Nobody is waited for without end, and a backend's failure is hidden when that is " +
			"safe.",
		Steps: []Step{
			{"timeout-silent-client timeout-slow-header timeout-408", "Set a deadline for the " +
				"whole head of a request, not for each read; when it has passed, answer 408 and " +
				"close. A program with a command line (-cmd) is given 16 s: say -timeouts if its " +
				"deadlines are shorter."},
			{"timeout-backend timeout-504", "Set a deadline for the beginning of the backend's " +
				"answer; when it has passed, answer 504."},
			{"timeout-body-stalls timeout-upload-stalls timeout-slow-body", "While a body moves, " +
				"each read gets its time anew; when nothing comes, close both sides."},
			{"balance-refused-hidden retry-refused", "A refused connection has cost nobody " +
				"anything: take the next backend, until one accepts, for a POST as well."},
			{"retry-broken retry-in-head retry-body", "A GET or a PUT that got no whole head of " +
				"an answer goes to another backend, once. Keep the first 64 KiB of its body for " +
				"that."},
			{"post-not-replayed balance-post-once retry-patch retry-begun retry-body-large " +
				"retry-each-once", "Never again: a POST or PATCH that a backend has read, a " +
				"request of which the client has a part of the answer, a body that was not " +
				"kept. Each backend is asked once at most."},
		}},
	{Name: "Health checks", Page: "ch8_health_checks.md",
		Goal: "The proxy asks its backends how they are, and gives requests to those that are " +
			"well.",
		Steps: []Step{
			{"health-ill health-silent", "Beside the requests send each backend GET / every " +
				"second or two. What answers something else than 2xx or 3xx three times, or not " +
				"in time, gets no requests."},
			{"health-back", "Go on asking those that are down, too; after two good answers they " +
				"are back."},
			{"health-drain", "404 means: I am leaving. No new requests; those under way end."},
			{"health-all-ill health-beside-traffic", "When all seem down, doubt the checks and " +
				"send requests all the same. Each check has a connection of its own."},
		}},
	{Name: "The drill", Page: "drills.md", Drill: true,
		Goal: "300 requests a second for 20 s, while one backend dies and another hangs: nothing " +
			"is lost that could be saved.",
		Steps: []Step{{"drill-dead", "Look at what was lost. GETs: a try that fails or takes " +
			"longer than a second must go to another backend. POSTs: the first that times " +
			"out must take the backend out, not the third."}}},
}
