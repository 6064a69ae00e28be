package simulate

import "math"

// agenda is when something happens next at each of some servers. It is a tournament:
// the servers are its leaves, in each match the earlier one wins, and the winner of
// the last match is what happens next. When one server's time changes, only the
// matches on its way up are played again.
type agenda struct {
	winners []event // of match 1, the last one, whose players come from 2 and 3, and so on
}

// event is that something happens at a server.
type event struct {
	at     uint64 // the bits of a float64, which compare as it does if it is not negative
	server int
}

func newAgenda(servers int) *agenda {
	leaves := 1
	for leaves < servers {
		leaves *= 2
	}
	a := &agenda{make([]event, 2*leaves)}
	for i := range leaves {
		a.set(i, math.Inf(1))
	}
	return a
}

// set says when something happens at a server.
func (a *agenda) set(server int, at float64) {
	match := len(a.winners)/2 + server
	if a.winners[match].at == math.Float64bits(at) {
		return
	}
	// Who wins is as good as chance, which a processor guesses wrong every second time.
	// Two ifs, each of which sets one integer, become moves without a branch: that is
	// three times as fast.
	first := event{math.Float64bits(at), server}
	a.winners[match] = first
	for match > 1 {
		other := a.winners[match^1]
		earlier := other.at < first.at
		if earlier {
			first.at = other.at
		}
		if earlier {
			first.server = other.server
		}
		match /= 2
		a.winners[match] = first
	}
}

// first returns what happens next: at which server, and when; +Inf is never.
func (a *agenda) first() (server int, at float64) {
	return a.winners[1].server, math.Float64frombits(a.winners[1].at)
}
