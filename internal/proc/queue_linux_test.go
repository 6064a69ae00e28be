package proc

import (
	"net"
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		defer c.Close()
	}
	port := ln.Addr().(*net.TCPAddr).Port
	queued, dropped, err := Queue(port)
	for end := time.Now().Add(patience); queued == 0 && time.Now().Before(end); {
		queued, dropped, err = Queue(port) // its last ACK may be under way
	}
	if queued != 1 || dropped != 0 || err != nil {
		t.Errorf("one waits to be accepted: %d queued, %d dropped, %v", queued, dropped, err)
	}
	ln.Close()
	if _, _, err := Queue(port); err == nil {
		t.Error("a closed listener was found")
	}
}
