package live

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// maxRecordings is how many are sent at once: each is some megabytes.
const maxRecordings = 2

// saved is the data inside a recording; "events", an array of records, follows.
type saved struct {
	Hello   hello      `json:"hello"`
	History []snapshot `json:"history"`
}

// recording serves the last minute as one HTML file: the page itself, its
// style and script inlined, with the data in place of the event stream.
func (s *Server) recording(w http.ResponseWriter, r *http.Request) {
	select {
	case s.saving <- struct{}{}:
		defer func() { <-s.saving }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("%d recordings are being saved already, try again in a moment",
			maxRecordings), http.StatusServiceUnavailable)
		return
	}
	pieces, err := s.record()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := fileName(s.config.Chapter) + time.Now().Format("-20060102-150405") + ".html"
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	rc := http.NewResponseController(w)
	end := time.Now().Add(s.limits.saving) // or one who reads drop by drop stays for long
	for i, piece := range pieces {
		deadline := time.Now().Add(s.limits.write)
		if deadline.After(end) {
			deadline = end
		}
		rc.SetWriteDeadline(deadline)
		if _, err := w.Write(piece); err != nil {
			return // net/http closes the connection, so the file is seen to be cut short
		}
		pieces[i] = nil // free it while the rest is sent
	}
}

// record returns the file in pieces. The events are encoded batch by batch,
// and before the first is sent, since the ring goes on while a client reads.
func (s *Server) record() ([][]byte, error) {
	data, err := json.Marshal(saved{Hello: s.hello("", 0), History: s.hub.recent(s.snapshot())})
	if err != nil {
		return nil, err
	}
	script, err := bundle()
	if err != nil {
		return nil, err
	}
	style, err := static.ReadFile("static/live.css")
	if err != nil {
		return nil, err
	}
	page, err := static.ReadFile("static/index.html")
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf(`<meta http-equiv="Content-Security-Policy" content="default-src 'none'; `+
		`script-src %s; style-src %s; base-uri 'none'; form-action 'none'"><style>%s</style>`,
		hash(script), hash(style), style)
	page = bytes.Replace(page, []byte(`<link rel="icon" href="favicon.svg">`), nil, 1)
	page = bytes.Replace(page, []byte(`<link rel="stylesheet" href="live.css">`), []byte(head), 1)
	before, after, _ := bytes.Cut(page, []byte(`<script type="module" src="main.js"></script>`))
	data = bytes.TrimSuffix(data, []byte("}")) // the events follow
	pieces := [][]byte{fmt.Appendf(nil,
		`%s<script type="application/json" id="recording">%s,"events":[`, before, data)}
	events, err := s.encodeLastMinute()
	if err != nil {
		return nil, err
	}
	pieces = append(pieces, events...)
	return append(pieces, fmt.Appendf(nil, `]}</script><script>%s</script>%s`, script, after)), nil
}

// encodeLastMinute returns the records of the last minute as the elements of a
// JSON array. Marshal escapes <, > and &: the data cannot end its element.
func (s *Server) encodeLastMinute() (pieces [][]byte, err error) {
	s.col.lastMinute(s.col.end(), func(batch []record) {
		body, failed := json.Marshal(batch)
		if failed != nil {
			err = failed
			return
		}
		body = body[:len(body)-1] // without the brackets
		if len(pieces) == 0 {
			body = body[1:]
		} else {
			body[0] = ','
		}
		pieces = append(pieces, body)
	})
	return pieces, err
}

// recent returns the snapshots of the last minute, the given one last.
func (h *hub) recent(now snapshot) []snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append([]snapshot{}, h.history...), now)
}

// modules are the page's scripts, each after those it imports from.
var modules = []string{"dom.js", "calls.js", "store.js", "player.js", "flow.js", "lanes.js",
	"steps.js", "controls.js", "main.js"}

var (
	importLine = regexp.MustCompile(`(?m)^import .*\n`)
	exportWord = regexp.MustCompile(`(?m)^export `)
)

// bundle joins the modules into one script, since a file cannot load modules
// from beside it. Their top-level names differ, so taking the imports and
// exports away is enough.
func bundle() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("\"use strict\";\n(() => {\n")
	for _, name := range modules {
		src, err := static.ReadFile("static/" + name)
		if err != nil {
			return nil, err
		}
		src = importLine.ReplaceAll(src, nil)
		b.Write(exportWord.ReplaceAll(src, nil))
	}
	b.WriteString("})();\n")
	return b.Bytes(), nil
}

// hash returns the source expression that allows one inline element.
func hash(body []byte) string {
	sum := sha256.Sum256(body)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// fileName keeps what is safe in a file's name.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' ||
			r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
}
