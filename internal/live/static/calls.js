// The ten steps with the calls behind them.

// PHASES are what a connection is doing until the step of that number is done.
export const PHASES = {
  4: "backlog",
  5: "reading",
  6: "connecting",
  7: "forwarding",
  8: "waiting",
  9: "sending",
  10: "closing",
};

export const PHASE_WORDS = {
  backlog: "waiting in the backlog",
  reading: "reading the request",
  connecting: "connecting",
  forwarding: "forwarding",
  waiting: "waiting for the backend",
  sending: "sending the response",
};

// STEPS holds, for each step, its name, the C call, the Go call and the ends
// of its arrow: c client, p proxy, b backend.
export const STEPS = [
  { step: 1, name: "socket", c: "socket", go: "net.Listen", arrow: "pp" },
  { step: 2, name: "bind", c: "bind", go: "net.Listen", arrow: "pp" },
  { step: 3, name: "listen", c: "listen", go: "net.Listen", arrow: "pp" },
  { step: 4, name: "accept", c: "accept", go: "listener.Accept", arrow: "cp" },
  { step: 5, name: "read request", c: "read", go: "conn.Read", arrow: "cp" },
  { step: 6, name: "connect", c: "socket connect", go: "Dialer.Dial", arrow: "pb" },
  { step: 7, name: "forward request", c: "write", go: "conn.Write", arrow: "pb" },
  { step: 8, name: "read response", c: "read", go: "conn.Read", arrow: "bp" },
  { step: 9, name: "send response", c: "write", go: "conn.Write", arrow: "pc" },
  { step: 10, name: "close", c: "close", go: "conn.Close", arrow: "x" },
];

// goCall returns the Go call of a step in the given chapter. ch1 makes the
// socket calls themselves.
export function goCall(step, chapter) {
  if (chapter.startsWith("ch1")) {
    return (
      {
        1: "syscall.Socket",
        2: "syscall.Bind",
        3: "syscall.Listen",
        4: "syscall.Accept",
        5: "syscall.Read",
        10: "syscall.Close",
      }[step.step] ?? ""
    );
  }
  return step.go;
}

// has reports whether a chapter has a step at all: ch1 forwards nothing.
export const has = (step, chapter) => !chapter.startsWith("ch1") || step <= 5 || step === 10;
