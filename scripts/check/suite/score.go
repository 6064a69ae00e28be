package suite

import "fmt"

// Tally counts outcomes.
type Tally struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"not_applicable"`
}

// String returns passed/applicable, such as "11/12", or "–" for nothing.
func (t Tally) String() string {
	if t.Passed+t.Failed == 0 {
		return "–"
	}
	return fmt.Sprintf("%d/%d", t.Passed, t.Passed+t.Failed)
}

// Score is a report in figures.
type Score struct {
	All    Tally                       `json:"all"`
	Levels map[string]Tally            `json:"levels"`
	Groups map[string]map[string]Tally `json:"groups"` // group, then level
}

// Score adds up the outcomes.
func (r *Report) Score() Score {
	s := Score{Levels: map[string]Tally{}, Groups: map[string]map[string]Tally{}}
	for _, res := range r.Results {
		if s.Groups[res.Group] == nil {
			s.Groups[res.Group] = map[string]Tally{}
		}
		level := res.Level.String()
		s.All = s.All.plus(res.Outcome)
		s.Levels[level] = s.Levels[level].plus(res.Outcome)
		s.Groups[res.Group][level] = s.Groups[res.Group][level].plus(res.Outcome)
	}
	return s
}

func (t Tally) plus(o Outcome) Tally {
	switch o {
	case Passed:
		t.Passed++
	case Failed:
		t.Failed++
	default:
		t.Skipped++
	}
	return t
}
