//go:build linux

package main

import (
	"testing"

	"reverseproxy/internal/harness"
	"reverseproxy/internal/harness/kept"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestKept(t *testing.T) { kept.Run(t, harness.Chapter(10)) }
