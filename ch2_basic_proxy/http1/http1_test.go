package http1

import (
	"strings"
	"testing"
	"time"
)

// A header that is cheap to send must be cheap to read.
func TestCostlyHeader(t *testing.T) {
	for name, fields := range map[string]string{
		"many fields and many named": "Connection: " + strings.Repeat("a,", 16<<10) + "\r\n" +
			strings.Repeat("b:\r\n", 7500),
		"one field many times": strings.Repeat("Via:a\r\n", 9000),
		"many forwarded":       strings.Repeat("X-Forwarded-For:a\r\n", 3300),
	} {
		head := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
		if len(head) > MaxHead {
			t.Fatalf("%s: %d bytes", name, len(head))
		}
		start := time.Now()
		// In the smallest pieces, too.
		for from := range head {
			if HeadEnd(head[:from], max(from-1, 0)) > 0 {
				t.Fatalf("%s: ends after %d bytes", name, from)
			}
			if RefuseRequest(head[:from+1], from) != nil {
				break
			}
		}
		var r Request
		if r.Parse(head) == nil {
			r.Append(nil, Hop{})
		}
		t.Logf("%s: %v", name, time.Since(start))
		if d := time.Since(start); d > time.Second {
			t.Errorf("%s: %d bytes cost %v", name, len(head), d)
		}
	}
}
