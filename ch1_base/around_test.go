//go:build linux || darwin

package main

import (
	"errors"
	"testing"
	"time"
)

func TestCheckTimeout(t *testing.T) {
	for d, right := range map[time.Duration]bool{
		time.Second: true, 1: true, 0: false, -time.Second: false,
	} {
		if err := checkTimeout(d); (err == nil) != right {
			t.Errorf("%v: %v", d, err)
		}
	}
}

func TestText(t *testing.T) {
	if text(nil) != "" || text(errors.New("x")) != "x" {
		t.Errorf("%q, %q", text(nil), text(errors.New("x")))
	}
}
