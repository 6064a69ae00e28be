package simulate

import "math"

// agenda is when something happens next at each of some servers. It is a tournament:
// the servers are its leaves, in each match the earlier one wins, and the winner of
// the last match is what happens next. When one server's time changes, only the
// matches on its way up are played again.
type agenda struct {
	at     []float64
	winner []int32 // of match 1, the last one, whose players come from matches 2 and 3, and so on
}

func newAgenda(servers int) *agenda {
	leaves := 1
	for leaves < servers {
		leaves *= 2
	}
	a := &agenda{at: make([]float64, leaves), winner: make([]int32, 2*leaves)}
	for i := range leaves {
		a.at[i] = math.Inf(1)
		a.winner[leaves+i] = int32(i)
	}
	for i := range leaves {
		a.set(i, math.Inf(1))
	}
	return a
}

// set says when something happens at a server.
func (a *agenda) set(server int, at float64) {
	a.at[server] = at
	for match := (len(a.at) + server) / 2; match > 0; match /= 2 {
		one, two := a.winner[2*match], a.winner[2*match+1]
		if a.at[two] < a.at[one] {
			one = two
		}
		a.winner[match] = one
	}
}

// first returns what happens next: at which server, and when; +Inf is never.
func (a *agenda) first() (server int, at float64) {
	server = int(a.winner[1])
	return server, a.at[server]
}
