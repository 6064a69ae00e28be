//go:build js && wasm

// Command wasm is package playground for a browser. It defines one function,
// newFarm(settings), and waits for its calls. The reader compiles it.
package main

import (
	"syscall/js"

	"reverseproxy/ch9_balancing_algorithms/choose"
	"reverseproxy/scripts/playground"
)

func main() {
	js.Global().Set("newFarm", js.FuncOf(newFarm))
	var kinds []any
	for _, k := range choose.Kinds {
		kinds = append(kinds, map[string]any{"name": k.Name, "about": k.About})
	}
	js.Global().Set("algorithms", kinds)
	js.Global().Call("dispatchEvent", js.Global().Get("Event").New("farms"))
	select {} // until the page is closed
}

// newFarm returns a farm as an object of methods, or a text that says what is wrong.
func newFarm(_ js.Value, args []js.Value) any {
	farm, err := playground.New(settings(args[0]))
	if err != nil {
		return err.Error()
	}
	methods := map[string]any{}
	method := func(name string, do func(args []js.Value) any) {
		methods[name] = js.FuncOf(func(_ js.Value, args []js.Value) any { return do(args) })
	}
	method("until", func(args []js.Value) any { return farm.Until(args[0].Float()) })
	method("nextJob", func([]js.Value) any { return farm.NextJob() })
	method("steps", func(args []js.Value) any { // at most so many; false: it has ended
		for range args[0].Int() {
			if !farm.Step() {
				return false
			}
		}
		return true
	})
	method("change", func(args []js.Value) any {
		if err := farm.Change(settings(args[0])); err != nil {
			return err.Error()
		}
		return ""
	})
	method("state", func([]js.Value) any { return state(farm) })
	method("free", func([]js.Value) any {
		for _, m := range methods {
			m.(js.Func).Release()
		}
		return nil
	})
	return methods
}

func settings(v js.Value) playground.Settings {
	s := playground.Settings{Algorithm: v.Get("algorithm").String(), Load: v.Get("load").Float(),
		Slow: v.Get("slow").Float(), Servers: v.Get("servers").Int(),
		Work: v.Get("work").String(), Jobs: v.Get("jobs").Int(),
		Seed: uint64(v.Get("seed").Float())}
	weights := v.Get("weights")
	for i := range weights.Length() {
		s.Weights = append(s.Weights, weights.Index(i).Float())
	}
	return s
}

func state(farm *playground.Farm) any {
	queues := make([]any, farm.Servers)
	for i := range queues {
		queues[i] = farm.Queue(i)
	}
	mean, p50, p99 := farm.Recent()
	result := farm.Result()
	return map[string]any{"now": farm.Now(), "arrived": farm.Arrived(), "ended": farm.Ended(),
		"queues": queues, "recentMean": mean, "recent50": p50, "recent99": p99,
		"mean": result.Mean, "p50": result.P50, "p99": result.P99, "longest": result.Longest,
		"counts": farm.Arrived() > farm.Warm}
}
