package main

import (
	"fmt"
	"math"
)

// connection is what comes before chapter 1: two programs and the kernel between.
func connection() *drawing {
	d := &drawing{height: 322, title: "Two programs, and the kernel that keeps their connection"}
	d.box(12, 12, 196, 106, "other")
	d.name(26, 38, "process: curl")
	d.box(56, 58, 108, 44, "empty", "5: a socket")
	d.box(310, 12, 318, 106, "program")
	d.name(324, 38, "process: ch1_base")
	d.box(324, 58, 130, 44, "empty", "7: listens")
	d.box(464, 58, 150, 44, "empty", "8: this client")
	d.note(325, 163, 0.5, "system calls: socket, connect, accept, read, write")
	d.box(12, 200, 616, 110, "kernel")
	d.name(178, 226, "the kernel keeps the connection")
	d.box(40, 240, 140, 52, "other", "port 53054")
	d.box(464, 240, 150, 52, "program", "port 8080")
	d.both("new", point{180, 266}, point{462, 266})
	d.note(321, 258, 0.5, "TCP, on 127.0.0.1 (localhost)")
	d.arrow("", point{110, 102}, point{110, 238})
	d.arrow("", point{539, 102}, point{539, 238})
	return d
}

// queue is chapter 1: the listening socket, its queue, and a client's own socket.
func queue() *drawing {
	d := &drawing{height: 330, title: "A listening socket, its queue, and one client's socket"}
	for i, client := range []string{"client C", "client B", "client A"} {
		d.box(12, 54+float64(i)*92, 96, 44, "other", client)
	}
	d.box(164, 12, 276, 306, "kernel")
	d.name(178, 36, "the server's kernel")
	d.box(178, 52, 248, 48, "program", "listening socket :8080")
	d.note(178, 132, 0, "its queue, the backlog:")
	d.cells(178, 142, 50, "", "", "", "C", "B")
	d.note(178, 204, 0, "their handshakes are complete")
	d.box(178, 226, 248, 48, "program", "socket 8: client A")
	d.note(178, 298, 0, "made by accept; carries the bytes")

	d.box(512, 12, 116, 306, "program")
	d.name(526, 36, "ch1_base")
	d.say(570, 82, 0.5, "3 listen")
	d.arrow("", point{512, 76}, point{428, 76})
	d.say(570, 168, 0.5, "4 accept")
	d.arrow("new", point{428, 162}, point{510, 162})
	d.say(570, 256, 0.5, "5 read")
	d.arrow("", point{428, 250}, point{510, 250})

	d.arrow("new", point{108, 76}, point{136, 76}, point{136, 154}, point{176, 154})
	d.arrow("new", point{108, 168}, point{176, 168})
	d.arrow("", point{108, 250}, point{176, 250})
	return d
}

// cells draws a queue: a cell for each name, empty for "".
func (d *drawing) cells(x, y, step float64, names ...string) {
	for i, who := range names {
		if who == "" {
			d.box(x+float64(i)*step, y, step-2, 40, "empty")
		} else {
			d.box(x+float64(i)*step, y, step-2, 40, "new", who)
		}
	}
}

// between is chapter 2: two connections and one flow of control.
func between() *drawing {
	d := &drawing{height: 300, title: "A proxy has two connections, and one client at a time"}
	d.box(12, 52, 88, 60, "other", "client A")
	d.box(12, 148, 88, 44, "other", "client B")
	d.box(12, 208, 88, 44, "other", "client C")
	d.box(234, 12, 172, 130, "program")
	d.name(250, 38, "ch2_basic_proxy")
	d.say(320, 76, 0.5, "one goroutine:")
	d.say(320, 100, 0.5, "5, 6, 7, 8, 9, 10,")
	d.say(320, 124, 0.5, "then the next client")
	d.box(548, 52, 80, 60, "other", "backend")
	d.arrow("", point{100, 66}, point{232, 66})
	d.note(166, 58, 0.5, "5 read request")
	d.arrow("", point{234, 98}, point{102, 98})
	d.note(166, 116, 0.5, "9 write response")
	d.arrow("", point{406, 66}, point{546, 66})
	d.note(476, 58, 0.5, "6 connect, 7 write")
	d.arrow("", point{548, 98}, point{408, 98})
	d.note(476, 116, 0.5, "8 read response")
	d.note(166, 30, 0.5, "one connection")
	d.note(476, 30, 0.5, "another one")

	d.box(164, 164, 300, 122, "kernel")
	d.name(178, 188, "the kernel's queue (backlog)")
	d.cells(178, 200, 54, "", "", "", "C", "B")
	d.note(178, 264, 0, "connected, and served by nobody yet")
	d.arrow("new", point{100, 170}, point{134, 170}, point{134, 212}, point{176, 212})
	d.arrow("new", point{100, 230}, point{176, 230})
	d.arrow("new", point{448, 220}, point{484, 220}, point{484, 153}, point{380, 153},
		point{380, 144})
	d.note(494, 190, 0, "4 accept")
	return d
}

// descriptors is chapter 3: after the start of a child two processes hold a socket.
func descriptors() *drawing {
	d := &drawing{height: 330, title: "Two descriptors, in parent and child, name one socket"}
	d.box(12, 12, 284, 96, "program")
	d.name(26, 36, "parent: accepts")
	d.box(26, 52, 116, 44, "empty", "7: listener")
	d.box(166, 52, 116, 44, "bad", "8: client")
	d.box(344, 12, 284, 96, "program")
	d.name(358, 36, "child: serves one client")
	d.box(358, 52, 116, 44, "new", "3: client")
	d.box(498, 52, 116, 44, "empty", "9: backend")
	d.box(12, 178, 616, 96, "kernel")
	d.name(98, 202, "the kernel")
	d.box(26, 216, 116, 44, "program", "listening")
	d.box(226, 216, 188, 44, "new", "the client's socket")
	d.box(470, 216, 144, 44, "program", "to the backend")
	d.arrow("", point{84, 96}, point{84, 214})
	d.arrow("bad dashed", point{224, 96}, point{290, 214})
	d.arrow("new", point{416, 96}, point{350, 214})
	d.arrow("", point{556, 96}, point{556, 214})
	d.note(236, 138, 1, "conn.Close()")
	d.note(236, 157, 1, "ends this one")
	d.note(404, 148, 0, "inherited")
	d.note(320, 302, 0.5, "The client reads end of file when both descriptors are closed.")
	return d
}

// goroutines is chapter 4: many of them, few threads.
func goroutines() *drawing {
	d := &drawing{height: 384, title: "Many goroutines on few threads; those that wait are parked"}
	d.box(12, 12, 616, 256, "program")
	d.name(26, 36, "one process: ch4_threaded")
	d.box(26, 54, 252, 182, "empty")
	d.say(152, 78, 0.5, "parked: nothing to read yet")
	for i := range 12 {
		x, y := 42+float64(i%4)*58, 94+float64(i/4)*38
		d.box(x, y, 50, 30, "new", fmt.Sprintf("g %d", i+20))
	}
	d.note(152, 226, 0.5, "stacks of some kilobytes")
	d.box(316, 54, 132, 182, "empty")
	d.say(382, 78, 0.5, "ready to run")
	for i := range 2 {
		d.box(357, 94+float64(i)*38, 50, 30, "new", fmt.Sprintf("g %d", i+32))
	}
	d.box(492, 54, 122, 80, "empty")
	d.say(553, 78, 0.5, "thread 1 runs")
	d.box(528, 92, 50, 30, "new", "g 34")
	d.box(492, 156, 122, 80, "empty", "thread 2 has", "none: it asks")
	d.box(12, 322, 616, 50, "kernel",
		"the kernel: epoll knows all their sockets, and says which are ready")
	d.arrow("", point{448, 92}, point{490, 92})
	d.arrow("", point{553, 236}, point{553, 320})
	d.note(543, 300, 1, "epoll_wait")
	d.arrow("new", point{382, 322}, point{382, 238})
	d.note(372, 300, 1, "these can go on")
	d.arrow("new", point{278, 148}, point{314, 148})
	d.arrow("", point{492, 118}, point{470, 118}, point{470, 254}, point{152, 254}, point{152, 238})
	return d
}

// turns is chapter 5: whose turn it is.
func turns() *drawing {
	d := &drawing{height: 300, title: "Six requests, three backends, each in its turn"}
	for i := range 6 {
		d.box(12, 12+float64(i)*47, 104, 38, "other", fmt.Sprintf("request %d", i+1))
	}
	d.box(216, 60, 168, 176, "program")
	d.name(230, 86, "choose")
	d.box(236, 104, 128, 48, "new", "next: 0, 1, 2,", "0, 1, 2, 0, …")
	d.note(300, 178, 0.5, "a mutex makes “take")
	d.note(300, 197, 0.5, "this one, advance”")
	d.note(300, 216, 0.5, "one act")
	for i := range 3 {
		d.box(480, 36+float64(i)*92, 148, 44, "other", fmt.Sprintf("backend 800%d", i))
		d.note(554, 98+float64(i)*92, 0.5, fmt.Sprintf("requests %d and %d", i+1, i+4))
	}
	for i := range 6 {
		y := 31 + float64(i)*47
		d.arrow("", point{116, y}, point{214, 90 + float64(i)*23})
	}
	for i := range 3 {
		d.arrow("new", point{384, 120 + float64(i)*28}, point{478, 58 + float64(i)*92})
	}
	return d
}

// pool is chapter 6: the idle connections of a backend, a stack.
func pool() *drawing {
	d := &drawing{height: 340, title: "Connections that are in use, and idle ones in a stack"}
	for i, who := range []string{"client A", "client B", "client C"} {
		d.box(12, 50+float64(i)*62, 92, 44, "other", who)
	}
	d.box(166, 12, 322, 316, "program")
	d.name(180, 36, "ch6_keep_alive")
	d.box(180, 50, 110, 44, "new", "GET /1")
	d.box(180, 112, 110, 44, "new", "GET /7")
	d.box(180, 174, 110, 44, "empty", "idle")
	d.box(552, 50, 76, 230, "other", "backend")
	for i := range 3 {
		y := 72 + float64(i)*62
		d.both("", point{104, y}, point{178, y})
	}
	d.both("", point{290, 72}, point{550, 72})
	d.both("", point{290, 134}, point{550, 134})
	d.note(400, 64, 0.5, "in use")
	d.note(400, 126, 0.5, "in use")
	d.box(318, 152, 156, 128, "empty")
	d.say(396, 174, 0.5, "the pool: a stack")
	for i, age := range []string{"used last", "older", "oldest"} {
		d.box(336, 182+float64(i)*32, 120, 28, "new", age)
		d.line("dashed", point{456, 196 + float64(i)*32}, point{550, 196 + float64(i)*32})
	}
	d.note(180, 246, 0, "step 6 takes")
	d.note(180, 264, 0, "from the top,")
	d.note(180, 282, 0, "10 gives back")
	d.arrow("new", point{276, 241}, point{300, 241}, point{300, 196}, point{334, 196})
	d.note(318, 300, 0, "what is not needed")
	d.note(318, 318, 0, "grows old, is closed")
	return d
}

// deadlines is chapter 7: who is waited for, when, and how long at most.
func deadlines() *drawing {
	d := &drawing{height: 372, title: "Each phase of a request has a deadline of its own"}
	d.say(12, 34, 0, "waiting for")
	d.box(112, 12, 90, 32, "other", "the client")
	d.box(212, 12, 110, 32, "new", "the backend")
	d.note(628, 34, 1, "time goes to the right")
	rows := []struct {
		kind        string
		from, to    float64
		phase, flag string
		right       bool // the words stand at the right of the bar
	}{
		{"other", 12, 110, "5 the request's header", "-request-timeout 10 s", true},
		{"new", 110, 170, "6 connect", "-connect-timeout 5 s", true},
		{"", 170, 260, "7 the request's body", "-idle-timeout 60 s a part, -min-rate", true},
		{"new", 260, 370, "8 the response's header", "-server-timeout 15 s", true},
		{"", 370, 500, "9 the response's body", "-idle-timeout 60 s a part, -min-rate", false},
		{"other", 500, 628, "between two requests", "-keepalive-timeout 60 s", false},
	}
	for i, r := range rows {
		y := 62 + float64(i)*44
		if r.kind == "" { // of both, in turn
			d.box(r.from, y, r.to-r.from, 16, "other")
			d.box(r.from, y+18, r.to-r.from, 16, "new")
		} else {
			d.box(r.from, y, r.to-r.from, 34, r.kind)
		}
		if r.right {
			d.say(r.to+10, y+15, 0, r.phase)
			d.note(r.to+10, y+32, 0, r.flag)
		} else {
			d.say(r.from-10, y+15, 1, r.phase)
			d.note(r.from-10, y+32, 1, r.flag)
		}
	}
	d.both("", point{110, 340}, point{500, 340})
	d.note(305, 360, 0.5, "all tries together: -total-timeout")
	return d
}

// states is chapter 8: what is known of one backend.
func states() *drawing {
	d := &drawing{height: 350, title: "The states of a backend, from up to down and back"}
	d.box(250, 24, 140, 48, "other", "up")
	d.box(486, 140, 142, 48, "new", "going down")
	d.box(250, 256, 140, 48, "bad", "down")
	d.box(12, 140, 132, 48, "new", "going up")
	d.box(12, 24, 132, 48, "kernel", "draining")

	d.arrow("", point{390, 40}, point{590, 40}, point{590, 138})
	d.note(484, 30, 0.5, "a check fails")
	d.arrow("", point{540, 140}, point{540, 62}, point{392, 62})
	d.note(530, 82, 1, "a check passes")
	d.arrow("bad", point{557, 188}, point{557, 280}, point{392, 280})
	d.note(478, 300, 0.5, "3 in a row (fall)")
	d.arrow("bad", point{350, 72}, point{350, 254})
	d.note(358, 130, 0, "a request that")
	d.note(358, 148, 0, "fails (max-fails)")
	d.arrow("", point{250, 290}, point{60, 290}, point{60, 190})
	d.note(154, 310, 0.5, "a check passes")
	d.arrow("bad", point{104, 188}, point{104, 268}, point{248, 268})
	d.note(114, 258, 0, "a check fails")
	d.arrow("", point{144, 164}, point{262, 164}, point{262, 74})
	d.note(152, 154, 0, "2 in a row")
	d.note(152, 184, 0, "(rise)")
	d.arrow("", point{306, 256}, point{306, 74})
	d.note(296, 222, 1, "its time is over")
	d.arrow("", point{250, 36}, point{146, 36})
	d.note(197, 28, 0.5, "404")
	d.arrow("", point{144, 60}, point{248, 60})
	d.note(197, 80, 0.5, "taken back")
	d.note(320, 338, 0.5,
		"In “up” and “going down” it gets requests; in the others it gets none.")
	return d
}

// ring is chapter 9: consistent hashing, and a backend that leaves.
func ring() *drawing {
	d := &drawing{height: 340, title: "Keys on a ring belong to the next backend's point"}
	const cx, cy, r = 190.0, 172.0, 118.0
	at := func(degrees, radius float64) point {
		angle := (degrees - 90) * math.Pi / 180
		return point{cx + radius*math.Cos(angle), cy + radius*math.Sin(angle)}
	}
	d.circle(cx, cy, r, "")
	owners := []struct {
		degrees     float64
		kind, label string
	}{
		{20, "program", "A"}, {75, "other", "B"}, {140, "bad", "C"},
		{200, "program", "A"}, {255, "bad", "C"}, {315, "other", "B"},
	}
	for _, o := range owners {
		p := at(o.degrees, r)
		d.circle(p.x, p.y, 9, o.kind)
		q := at(o.degrees, r+26)
		d.say(q.x, q.y+6, 0.5, o.label)
	}
	// A key goes on, clockwise, to the first point.
	walk := func(kind string, from, to, radius float64) {
		var path []point
		for degrees := from; degrees < to; degrees += 5 {
			path = append(path, at(degrees, radius))
		}
		d.arrow(kind, append(path, at(to, radius))...)
	}
	for _, k := range []struct {
		kind     string
		from, to float64
	}{{"", 36, 67}, {"", 272, 307}, {"new", 104, 192}} {
		p := at(k.from-6, r-22)
		d.circle(p.x, p.y, 4, "new")
		walk(k.kind, k.from, k.to, r-22)
	}
	d.box(352, 20, 276, 300, "empty")
	d.name(366, 46, "a ring of hashes")
	for i, line := range []string{
		"Each backend has many points:", "160 for each unit of weight.", "",
		"A key (a small dot) belongs to", "the next point, clockwise.", "",
		"C is down: its keys go on to", "the next point that is up.", "All other keys stay.", "",
		"A backend with more than 1.25", "times its part is passed over."} {
		if line != "" {
			d.say(366, 76+float64(i)*20.5, 0, line)
		}
	}
	d.say(cx, cy-4, 0.5, "backends")
	d.say(cx, cy+18, 0.5, "A, B, C")
	return d
}

// insideOut is chapter 10: what a goroutine's place in the code was is a field now.
func insideOut() *drawing {
	d := &drawing{height: 400, title: "Blocking code inside out: a state for each connection"}
	d.box(12, 12, 226, 376, "program")
	d.name(26, 36, "ch4: a goroutine each")
	d.note(26, 58, 0, "Its place in the code says")
	d.note(26, 76, 0, "what it waits for.")
	for i, line := range []string{"ReadRequest", "Connect", "request.Write", "ReadResponse",
		"response.Write"} {
		y := 92 + float64(i)*56
		d.box(40, y, 144, 36, "empty", line)
		if i > 0 {
			d.arrow("", point{112, y - 20}, point{112, y - 2})
		}
	}
	for _, g := range []struct{ y, x float64 }{{110, 204}, {110, 222}, {222, 204}, {278, 204}} {
		d.circle(g.x, g.y, 6, "new")
	}
	d.note(125, 374, 0.5, "a dot: a client's goroutine")

	d.box(262, 12, 366, 318, "program")
	d.name(276, 36, "ch10: one thread for all")
	d.note(276, 58, 0, "A field says what each connection waits for.")
	d.box(276, 72, 148, 40, "new", "wait: epoll_wait")
	d.box(446, 72, 168, 40, "empty", "for each ready one")
	d.arrow("", point{424, 92}, point{444, 92})
	d.arrow("", point{536, 112}, point{536, 138}, point{354, 138}, point{354, 114})
	d.note(445, 133, 0.5, "go on, never wait")
	d.note(276, 172, 0, "connection")
	d.note(376, 172, 0, "its state")
	for i, c := range []struct{ who, state, kind string }{
		{"client A", "readRequest", "empty"}, {"client B", "readRequest", "empty"},
		{"client C", "forwardRequest", "new"}, {"client D", "readResponse", "empty"}} {
		y := 180 + float64(i)*36
		d.box(276, y, 94, 32, "empty", c.who)
		d.box(374, y, 142, 32, c.kind, c.state)
	}
	d.note(524, 273, 0, "ready: its turn")
	d.box(262, 354, 366, 34, "kernel", "the kernel: the epoll set, all sockets")
	d.arrow("", point{430, 330}, point{430, 352})
	d.arrow("new", point{460, 354}, point{460, 332})
	return d
}
