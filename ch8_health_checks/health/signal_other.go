//go:build !unix

package health

import (
	"context"
	"errors"
)

func (f *Farm) checkDrain() error {
	if f.drain != "" {
		return errors.New("-drain needs SIGUSR1, which this system does not have; " +
			"the live page (-watch) can drain too")
	}
	return nil
}

func (f *Farm) onSignal(context.Context) {}
