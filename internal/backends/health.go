package backends

import (
	"net/http"
	"sync/atomic"
)

// shared is what all backends of a group depend on, such as a database.
type shared struct{ off atomic.Bool }

// health answers a health check: 404 while the backend is asked to leave, and, if
// the check is a deep one, 503 while what it depends on is off. All backends fail a
// deep check together.
func (l *life) health(w http.ResponseWriter, r *http.Request) error {
	deep, err := number(r, "deep", 0, 0, 1)
	if err != nil {
		return err
	}
	name := "Backend " + l.backend.port
	switch {
	case l.backend.leaving.Load():
		text(w, http.StatusNotFound, name+" is about to leave.")
	case deep == 1 && l.backend.shared.off.Load():
		text(w, http.StatusServiceUnavailable, name+" is well, what it depends on is off.")
	default:
		text(w, http.StatusOK, name+" is well.")
	}
	return nil
}

// toggle sets a switch on or off with a POST, and says how it stands.
func toggle(w http.ResponseWriter, r *http.Request, what string, on bool, set func(bool)) error {
	if r.Method == http.MethodPost {
		n, err := number(r, "on", 1, 0, 1)
		if err != nil {
			return err
		}
		on = n == 1
		set(on)
	}
	text(w, http.StatusOK, what+": "+map[bool]string{true: "on", false: "off"}[on])
	return nil
}

// dependency switches what all backends depend on.
func (l *life) dependency(w http.ResponseWriter, r *http.Request) error {
	off := &l.backend.shared.off
	return toggle(w, r, "What all backends depend on", !off.Load(),
		func(on bool) { off.Store(!on) })
}

// leave makes this backend say to health checks that it is about to leave.
func (l *life) leave(w http.ResponseWriter, r *http.Request) error {
	leaving := &l.backend.leaving
	return toggle(w, r, "Backend "+l.backend.port+" is about to leave", leaving.Load(),
		leaving.Store)
}
