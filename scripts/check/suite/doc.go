// Package suite is the engine of the checker: it runs cases (package cases has
// them) on an HTTP/1.1 reverse proxy, with raw-socket clients, scripted backends,
// a scheduler and the score.
//
// The suite stands on both sides of the proxy. It plays the client on one TCP
// connection and the backend on another, so each case sees every byte that
// goes in and every byte that comes out. Each request carries a token of its
// own in its path or in a field; a backend connection is given to the case
// whose token arrives on it, so cases can run side by side.
package suite
