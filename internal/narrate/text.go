package narrate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fatih/color"
)

// connColors tell connections apart when their lines interleave.
var connColors = []color.Attribute{color.FgCyan, color.FgGreen, color.FgYellow,
	color.FgMagenta, color.FgBlue, color.FgHiCyan, color.FgHiGreen, color.FgHiMagenta}

// emoji opens each step's line, as in the C programs: done, listening,
// received, sent, answer received, closed.
var emoji = [...]string{"", "✅", "✅", "👂", "✅", "📦", "✅", "📤", "📥", "📤", "🔒"}

// Text returns a sink that writes one line an event for people: connection,
// number of the step, emoji, what happened. What is too long for a line, as the
// reason of a failure may be, goes on below it. Each event is a single Write.
func Text(w io.Writer) Sink {
	red := color.New(color.FgRed)
	return func(e Event) {
		line := describe(e)
		switch {
		case line == "":
			return
		case e.Err != "" && (e.Failed || e.Step != Close):
			line = red.Sprint(line)
		case e.Conn != 0:
			line = color.New(connColors[e.Conn%uint64(len(connColors))]).Sprint(line)
		}
		io.WriteString(w, line+"\n")
	}
}

// describe returns an event's line without its colour; "" for none.
func describe(e Event) string {
	number, icon := "  ", "  "
	if e.Kind == KindStep {
		number, icon = fmt.Sprintf("%2d", e.Step), emoji[e.Step]
	}
	text := ""
	switch e.Kind {
	case KindStep:
		text = describeStep(e)
	case KindRoute:
		icon, text = "➡️ ", "Routing to backend "+e.Peer
	case KindPool:
		icon, text = "♻️ ", describePool(e)
	case KindTry:
		icon, text = "🔁", describeTry(e)
	case KindCookie:
		icon, text = "🍪", e.Text
	case KindBudget:
		icon, text = "🪙", describeBudget(e)
	case KindHealth:
		icon, text = health[e.State], "Backend "+e.Peer+" is "+e.State+": "+e.Text
		if e.Peer == "" {
			icon, text = "🚦", e.Text
		}
	case KindQueue:
		icon, text = "⏳", fmt.Sprintf("Requests that wait for a backend: %d", e.Waiting)
	case KindBody:
		icon, text = "📤", "Forwarded the request's body ("+count(e.Bytes, "byte")+")"
	case KindIdle:
		icon, text = "💤", "Waiting for another request"
		if e.Status != 0 {
			text = fmt.Sprintf("Answered with %d, waiting for another request", e.Status)
		}
	case KindWorker:
		icon, text = "👷", e.Worker+" "+e.Text
	case KindProblem:
		return "❌ " + Wrap(e.Err, 3, 3)
	default: // a check, too: what it changes is told
		return ""
	}
	if e.Err != "" && e.Step != Close {
		icon = "❌"
	}
	prefix := fmt.Sprintf("%-5s%s ", label(e), number)
	start := len(prefix) + iconWidth
	if e.Step == ReadRequest && e.Err == "" {
		text += requestLine(e, Columns-start-len(text))
	}
	return prefix + icon + " " + Wrap(text, start, textColumn)
}

// label says which connection an event belongs to, "#3", and from a connection's
// second request on which request, "#3.2".
func label(e Event) string {
	switch {
	case e.Conn == 0:
		return ""
	case e.Request < 2 || e.Step == Close:
		return fmt.Sprintf("#%d", e.Conn)
	}
	return fmt.Sprintf("#%d.%d", e.Conn, e.Request)
}

const (
	iconWidth  = 3  // columns of an emoji and the space behind it
	textColumn = 11 // where a line's text begins, as a rule
	shortest   = 20 // columns of the request that are shown in any case
)

// requestLine returns the end of step 5's line, the request and who reads it, in
// at most so many columns: a long target is cut.
func requestLine(e Event, room int) string {
	end := ""
	if e.Worker != "" {
		end = " [" + e.Worker + "]"
	}
	if e.Text == "" {
		return end
	}
	text := e.Text
	if room = max(room-len(": ")-len(end), shortest); len(text) > room {
		text = text[:room-len("...")] + "..."
	}
	return ": " + text + end
}

// describePool says what becomes of a connection after a request.
func describePool(e Event) string {
	whose := "the client's connection"
	if e.Peer != "" {
		whose = "the connection to " + e.Peer
	}
	if e.State == Kept {
		return "Keeping " + whose
	}
	if e.State == Dropped {
		whose = "an idle connection to " + e.Peer
	}
	return "Closing " + whose + ": " + e.Text
}

// health shows the states of a backend.
var health = map[string]string{Up: "💚", GoingDown: "💛", Down: "💔", GoingUp: "💛", Draining: "🚪"}

// describeTry says what follows a try that has failed.
func describeTry(e Event) string {
	text := fmt.Sprintf("Try %d", max(e.Try, 1))
	if e.Peer != "" {
		text += " (" + e.Peer + ")"
	}
	if e.State == Again {
		return text + " failed, trying again: " + e.Text
	}
	return text + " failed, no further try: " + e.Text
}

func describeBudget(e Event) string {
	text := fmt.Sprintf("Retry budget: %.4g of %.4g tokens", e.Level, e.Full)
	if e.Low() {
		text += fmt.Sprintf(", no further tries until it is above %.4g", e.Full/2)
	}
	return text
}

// describeStep returns what a step's line says after the emoji.
func describeStep(e Event) string {
	var b strings.Builder
	switch e.Step {
	case Socket:
		b.WriteString("Socket created")
	case Bind:
		b.WriteString("Bound to " + e.Peer)
	case Listen:
		b.WriteString("Listening for connections")
	case Accept:
		b.WriteString("Accepted a connection")
		if e.Peer != "" {
			b.WriteString(" from " + e.Peer)
		}
	case ReadRequest:
		b.WriteString("Received " + count(e.Bytes, "byte"))
	case Connect:
		if e.Reused {
			b.WriteString("Reused an idle connection to " + e.Peer)
		} else {
			b.WriteString("Connected to " + e.Peer)
		}
	case ForwardRequest:
		b.WriteString("Forwarded the request to the backend (" + count(e.Bytes, "byte") + ")")
	case ReadResponse:
		b.WriteString("Received from the backend (" + count(e.Bytes, "byte") + ")")
	case SendResponse:
		b.WriteString("Sent the response to the client (" + count(e.Bytes, "byte") + ")")
	case Close:
		b.WriteString("Connection closed after " + Elapsed(e.Elapsed))
		switch {
		case e.Request > 1:
			b.WriteString(", " + count(int64(e.Request), "request"))
		case e.Status != 0:
			fmt.Fprintf(&b, ", answered with %d", e.Status)
		}
	}
	if e.Err != "" && e.Step != Close && e.Name != "" {
		b.Reset()
		b.WriteString(strings.ToUpper(e.Name[:1]) + e.Name[1:] + " failed")
	}
	switch {
	case e.Step == ReadResponse && e.Status != 0:
		fmt.Fprintf(&b, ": %d %s", e.Status, e.Text)
	case (e.Step <= Listen || e.Step == Connect && !e.Reused && e.Try < 2) && e.Text != "":
		fmt.Fprintf(&b, " (%s, %s)", e.Calls, e.Text)
	case e.Step == ReadRequest && e.Err == "", e.Step == Connect: // said elsewhere, or not at all
	case e.Text != "":
		b.WriteString(": " + e.Text)
	}
	if e.Err != "" && (e.Step != Close || e.Status == 0 || e.Status < 400) {
		b.WriteString(": " + e.Err)
	}
	if e.Step == Connect && e.Try > 1 {
		fmt.Fprintf(&b, " [try %d]", e.Try)
	}
	if e.Step == ReadRequest && e.Err != "" && e.Worker != "" {
		b.WriteString(" [" + e.Worker + "]")
	}
	return b.String()
}

// Elapsed returns microseconds for people: "850 µs", "12.3 ms", "2.50 s".
func Elapsed(us int64) string {
	switch d := time.Duration(us) * time.Microsecond; {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", us)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	default:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
}

// JSON returns a sink that writes each event as one JSON object a line.
func JSON(w io.Writer) Sink {
	return func(e Event) {
		line, err := json.Marshal(e)
		if err != nil {
			return // no Event holds anything that cannot be encoded
		}
		w.Write(append(line, '\n'))
	}
}
