// Package suite holds the conformance cases for HTTP/1.1 reverse proxies and
// what runs them: raw-socket clients, scripted backends, the scheduler and
// the score.
//
// The suite stands on both sides of the proxy. It plays the client on one TCP
// connection and the backend on another, so each case sees every byte that
// goes in and every byte that comes out. Each request carries a token of its
// own in its path or in a field; a backend connection is given to the case
// whose token arrives on it, so cases can run side by side.
package suite
