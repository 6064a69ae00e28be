// The ten steps with the calls behind them.

// PHASES are what a connection is doing until the step of that number is done.
export const PHASES = {
  5: "reading",
  6: "connecting",
  7: "forwarding",
  8: "waiting",
  9: "sending",
  10: "closing",
};

// LEGEND has the phases that are explained, in their order.
export const LEGEND = {
  backlog: "in the backlog",
  starting: "starting a process",
  reading: "reading",
  connecting: "connecting",
  forwarding: "forwarding",
  waiting: "waiting for a backend",
  sending: "sending",
};

// STEPS holds, for each step, its name, the C call, net's call and syscall's
// for a program that makes the socket calls itself, and the ends of its arrow: c
// client, p proxy, b backend.
export const STEPS = [
  { step: 1, name: "socket", c: "socket", go: "net.Listen", raw: "Socket", arrow: "pp" },
  { step: 2, name: "bind", c: "bind", go: "net.Listen", raw: "Bind", arrow: "pp" },
  { step: 3, name: "listen", c: "listen", go: "net.Listen", raw: "Listen", arrow: "pp" },
  { step: 4, name: "accept", c: "accept", go: "listener.Accept", raw: "Accept", arrow: "cp" },
  { step: 5, name: "read request", c: "read", go: "conn.Read", raw: "Read", arrow: "cp" },
  { step: 6, name: "connect", c: "socket connect", go: "net.Dial", raw: "Connect", arrow: "pb" },
  { step: 7, name: "forward request", c: "write", go: "conn.Write", raw: "Write", arrow: "pb" },
  { step: 8, name: "read response", c: "read", go: "conn.Read", raw: "Read", arrow: "bp" },
  { step: 9, name: "send response", c: "write", go: "conn.Write", raw: "Write", arrow: "pc" },
  { step: 10, name: "close", c: "close", go: "conn.Close", raw: "Close", arrow: "x" },
];

// has reports whether a program has a step at all: ch1 forwards nothing.
export const has = (step, hello) => hello.forwards || step <= 5 || step === 10;
