package suite

// What the tests of this folder that are not in the package need of it.
var (
	FreePort = freePort
	Listens  = listens
)

// HolderOf is the process that listens on an address, 0 if it is not known.
func HolderOf(addr string) int { return holderOf(addr).pid }
