//go:build race

package main

// withRace says that the race detector is on: what only Chromium lays out is then looked at
// once, not on every page.
const withRace = true
