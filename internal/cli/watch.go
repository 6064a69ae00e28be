package cli

import (
	"reverseproxy/internal/live"
	"reverseproxy/internal/narrate"
)

// startWatching starts the live page and lets it follow every event.
func (a *App) startWatching() {
	config := live.Config{Chapter: a.Name, Narrator: a.Log, BackendAddrs: a.Backends}
	if a.Workers != nil {
		config.Workers = a.Workers()
	}
	if a.group != nil {
		config.Backends = a.group
	}
	page, err := live.Start(a.watch, config)
	if err != nil {
		a.Fatal(errWatch{err})
	}
	a.page = page
	a.Log.AttachSample(page.Sink, page.Shows)
	a.Say("Watch live on http://" + reachable(page.Addr()) + "/")
	if a.format == "json" {
		a.Log.Emit(narrate.Event{Kind: narrate.KindWatch, Listen: page.Addr()})
	}
}

// Balances says which algorithms the live page can switch to, as Drains.
func (a *App) Balances(b live.Balancing) {
	if a.page != nil {
		a.page.Balances(b)
	}
}

// Drains says what the live page's buttons call that drain a backend, or end
// that. Call it after Start; without it there are no such buttons.
func (a *App) Drains(f func(addr string, drain bool) error) {
	if a.page != nil {
		a.page.Drains(f)
	}
}
