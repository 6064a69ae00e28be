//go:build unix && !linux

package harness

import "testing"

// NeedProc skips a test where there is no /proc.
func NeedProc(t *testing.T) {
	t.Helper()
	t.Skip("this system has no /proc to look into")
}

// Children cannot be listed here.
func (p *Proxy) Children(T) []int { return nil }

// WaitChildren does not wait here.
func (p *Proxy) WaitChildren(T, int) []int { return nil }

// Family cannot be listed here.
func (p *Proxy) Family() []string { return nil }

func (p *Proxy) killAll() {}

// WaitFamilyGone does not wait here.
func (p *Proxy) WaitFamilyGone(T) {}

// Descriptors cannot be counted here.
func (p *Proxy) Descriptors(T) int { return 0 }

// WaitDescriptors does not wait here.
func (p *Proxy) WaitDescriptors(T, int) {}

// PeakMemory is not known here.
func (p *Proxy) PeakMemory(T) int64 { return 0 }

// Sockets cannot be counted here.
func Sockets(int) int { return 0 }

// WaitThreadGone does not wait here.
func (p *Proxy) WaitThreadGone(T, string) {}

// Threads cannot be counted here.
func (p *Proxy) Threads(T) int { return 0 }

// WaitIdle does not wait here.
func (p *Proxy) WaitIdle(T) {}

func (p *Proxy) waitFor(T, func() string) {}

// Freeze stops nothing here.
func (p *Proxy) Freeze(T) {}

// Thaw lets nothing go on.
func (p *Proxy) Thaw(T) {}
