package retry

import (
	"errors"
	"slices"

	"reverseproxy/ch2_basic_proxy/forward"
	"reverseproxy/ch5_load_balancer/balance"
)

// Chooser chooses the backend of each try.
type Chooser interface {
	// Choose returns the address of a backend for one more try of a request, none
	// of those that have been tried. An error is what becomes of a request that
	// no backend has seen.
	Choose(r *forward.Request, tried []string) (addr string, err error)
	// Release is called when the try is over.
	Release(addr string)
}

// InTurn chooses, for the first try, the backend whose turn it is, and for each
// further one the next in the list.
type InTurn struct {
	*balance.RoundRobin
	backends []string
}

// NewInTurn returns an InTurn over the given addresses, at least one.
func NewInTurn(backends []string) *InTurn {
	return &InTurn{balance.NewRoundRobin(backends), backends}
}

// errNone leaves the request with the failure of its last try.
var errNone = errors.New("no other backend is left")

// Choose is Chooser's.
func (t *InTurn) Choose(_ *forward.Request, tried []string) (addr string, err error) {
	if len(tried) == 0 {
		return t.Next(), nil
	}
	i := slices.Index(t.backends, tried[len(tried)-1])
	for n := 1; n < len(t.backends); n++ {
		if addr = t.backends[(i+n)%len(t.backends)]; !slices.Contains(tried, addr) {
			return addr, nil
		}
	}
	return "", errNone
}

// Release is Chooser's.
func (t *InTurn) Release(string) {}
