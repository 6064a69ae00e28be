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

// saved is the data inside a recording.
type saved struct {
	Hello   hello      `json:"hello"`
	History []snapshot `json:"history"`
	Events  []record   `json:"events"`
}

// recording serves the last minute as one HTML file: the page itself, its
// style and script inlined, with the data in place of the event stream.
func (s *Server) recording(w http.ResponseWriter, r *http.Request) {
	page, err := s.record()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := fmt.Sprintf("%s-%s.html", fileName(s.config.Chapter), time.Now().Format("20060102-150405"))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	w.Write(page)
}

func (s *Server) record() ([]byte, error) {
	data := saved{Hello: s.hello(""), History: s.hub.recent(s.snapshot()), Events: []record{}}
	s.col.lastMinute(s.col.end(), func(batch []record) { data.Events = append(data.Events, batch...) })
	body, err := json.Marshal(data) // escapes <, > and &: the data cannot end its element
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
	tail := fmt.Sprintf(`<script type="application/json" id="recording">%s</script><script>%s</script>`, body, script)
	page = bytes.Replace(page, []byte(`<link rel="icon" href="favicon.svg">`), nil, 1)
	page = bytes.Replace(page, []byte(`<link rel="stylesheet" href="live.css">`), []byte(head), 1)
	page = bytes.Replace(page, []byte(`<script type="module" src="main.js"></script>`), []byte(tail), 1)
	return page, nil
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
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
}
