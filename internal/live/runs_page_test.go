package live_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"reverseproxy/internal/book"
)

const mostBytes = 300_000 // of a recorded run

// testRuns: each chapter's recorded run replays to its end without the program,
// shows what the run was about, and its page links to it. All replay at once: a replay takes
// as long as the run has taken.
func (b *bench) testRuns(t *testing.T) {
	var all sync.WaitGroup
	for _, chapter := range book.Chapters {
		run := func(t *testing.T) {
			name := chapter.Short() + ".html"
			file, err := filepath.Abs(filepath.Join(root, "docs/runs", name))
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Fatalf("%v; make it: go run ./internal/live/runs -only %s", err, chapter.Short())
			}
			if info.Size() > mostBytes {
				t.Errorf("%d bytes, at most %d", info.Size(), mostBytes)
			}
			text, err := os.ReadFile(filepath.Join(root, "docs", chapter.Dir+".md"))
			if err != nil || !strings.Contains(string(text), "(runs/"+name+")") {
				t.Errorf("its page does not link to it (%v)", err)
			}
			o := b.open(t, "file://"+file)
			o.until(`document.querySelector("#status").dataset.status === "recording"`)
			// It replays by itself, and then stands still.
			o.until(`document.documentElement.dataset.mode === "paused" && rows().length > 0`)
			o.until(counter("inFlight", 0) + ` && rowsDone() === rows().length`)
			switch {
			case !chapter.Forwards():
				o.until(rowsDone(1))
			case len(chapter.Backends) == 1:
				o.until(rowsDone(10) + " && " + counter("failed", 0))
			default: // a stopped backend had failures, and serves again at the end
				o.until(`Number(card(1).failures) > 0 && card(1).running === "true"`)
				o.until(atLeast("requests", 36))
			}
			var settles bool
			o.evaluate("axisSettles()", &settles)
			if !settles {
				t.Error("the axis of a picture that stands still changes")
			}
			var shown string
			o.read(`document.querySelector("#chapter").textContent`, &shown)
			if shown != chapter.Dir {
				t.Errorf("it shows %s", shown)
			}
		}
		all.Go(func() { t.Run(chapter.Short(), run) }) // ends with its replay
	}
	all.Wait()
}
