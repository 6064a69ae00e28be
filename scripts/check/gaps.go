package main

// A gap is something that a chapter leaves open on purpose, by name: a later
// chapter closes it. It explains why these cases fail.
type gap struct {
	name     string
	closedBy string
	cases    []string
}

// The named gaps of Part I.
var (
	oneRequest = gap{"one request a connection, on both sides", "ch6",
		[]string{"keep-alive-client", "keep-alive-post", "keep-alive-head", "pipelining-served", "backend-reuse"}}
	oneClient = gap{"one slow client blocks all", "ch3, ch4",
		[]string{"free-silent-client", "free-slow-header", "free-slow-upload", "free-slow-backend", "free-slow-reader",
			"free-100-idle", "free-parallel"}}
	deadBackend = gap{"a dead backend still gets its turn", "ch7, ch8", []string{"balance-refused-hidden"}}
)

// chapterGaps lists, for each chapter, the gaps it has. A test fails when a
// gap is closed or a new one opens.
var chapterGaps = map[string][]gap{
	"ch2_basic_proxy":   {oneRequest, oneClient},
	"ch3_process_model": {oneRequest},
	"ch4_threaded":      {oneRequest},
	"ch5_load_balancer": {oneRequest, deadBackend},
}

// gapOf returns the gap that explains why a chapter fails a case.
func gapOf(chapter, id string) (gap, bool) {
	for _, g := range chapterGaps[chapter] {
		for _, c := range g.cases {
			if c == id {
				return g, true
			}
		}
	}
	return gap{}, false
}
