// Package cases holds what the checker tests a proxy for: tables of cases, a file
// for each subject, and the helpers that only they need. Package suite runs them.
package cases

import (
	"slices"

	"reverseproxy/scripts/check/suite"
)

// The engine's words that every table uses, so that a case reads without its name.
type (
	T        = suite.T
	Case     = suite.Case
	Level    = suite.Level
	Client   = suite.Client
	Exchange = suite.Exchange
	Head     = suite.Head
	Message  = suite.Message
	Request  = suite.Request
	Response = suite.Response
)

// The engine's constants, likewise.
const (
	Must         = suite.Must
	Should       = suite.Should
	Quality      = suite.Quality
	Timed        = suite.Timed
	Alone        = suite.Alone
	TimedAlone   = suite.TimedAlone
	Plain        = suite.Plain
	Checked      = suite.Checked
	Last         = suite.Last
	NeedsSeveral = suite.NeedsSeveral
	NeedsProcess = suite.NeedsProcess
	NeedsPool    = suite.NeedsPool

	Host    = suite.Host // what requests name as their host
	OutTime = suite.OutTime
)

// Likewise the functions.
var (
	Reply   = suite.Reply
	Kept    = suite.Kept
	Chunked = suite.Chunked
	Visible = suite.Visible
)

// registry holds every case in the order of the report.
var registry = slices.Concat(
	basicsCases,
	requestFramingCases,
	responseFramingCases,
	responsesWithoutBodyCases,
	http10Cases,
	trailersCases,
	interimResponsesCases,
	forwardingFieldsCases,
	smugglingLengthsCases,
	smugglingEncodingsCases,
	smugglingChunksCases,
	smugglingLinesCases,
	smugglingHostsCases,
	smugglingMoreRequestsCases,
	keepAliveCases,
	poolCases,
	upgradeCases,
	streamingCases,
	earlyResponsesCases,
	abortsCases,
	sizesAndLimitsCases,
	errorsCases,
	timeoutsCases,
	concurrencyCases,
	crosstalkCases,
	loadBalancingCases,
	retryCases,
	healthCases,
	processCases,
)

// group gives cases their group's name.
func group(name string, cases ...Case) []Case {
	for i := range cases {
		cases[i].Group = name
	}
	return cases
}

// All returns every case, in the order of the report.
func All() []Case { return slices.Clone(registry) }

// Groups returns the groups in the order of the report.
func Groups() (names []string) {
	for _, c := range registry {
		if len(names) == 0 || names[len(names)-1] != c.Group {
			names = append(names, c.Group)
		}
	}
	return names
}
