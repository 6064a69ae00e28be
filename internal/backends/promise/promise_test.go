package promise

import (
	"testing"

	"reverseproxy/internal/backends"
)

func TestDemoBackend(t *testing.T) {
	group, err := backends.Start([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	Check(t, group.Addrs()[0])
}
