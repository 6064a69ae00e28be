//go:build unix

package main

import (
	"testing"

	"reverseproxy/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestScenarios(t *testing.T) {
	t.Run("child per connection", func(t *testing.T) { harness.RunScenarios(t, harness.Fork) })
	t.Run("prefork", func(t *testing.T) { harness.RunScenarios(t, harness.Prefork) })
}
