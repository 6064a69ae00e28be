package main

import "io"

func (o *options) writeScoreboard(stdout, stderr io.Writer) int { return exitUsage }
