//go:build !unix

package cli

// FitDescriptors returns n: this system has no fixed limit on open sockets.
func (a *App) FitDescriptors(n, each int) int { return n }
