package backends

import (
	"bytes"
	"fmt"
	"io"
)

const (
	lineBytes  = 16                      // one line of content: 15 digits and a newline
	groupLines = 1000                    // lines whose last three digits run from 000 to 999
	groupBytes = lineBytes * groupLines  // bytes of such a group
	blockBytes = groupBytes * blockGroup // bytes made and written at a time
	blockGroup = 4                       // groups in a block
)

// Content returns the first n bytes of what /bytes and /drop send: numbered lines of
// 16 bytes, "000000000000000\n", "000000000000001\n" and so on. So every byte
// depends on its position, a missing, doubled or misplaced piece shows, and
// the last line of a broken download tells where it broke.
func Content(n int64) io.Reader {
	return &content{left: n}
}

// Verify reads r to its end and compares it with the first n bytes of
// [Content], in constant memory. The error names the first byte that differs,
// or how many bytes came before the end or before r failed.
func Verify(r io.Reader, n int64) error {
	want := Content(n)
	got := make([]byte, blockBytes)
	wanted := make([]byte, blockBytes)
	var at int64
	for {
		k, err := r.Read(got)
		if w, _ := io.ReadFull(want, wanted[:k]); w < k {
			return fmt.Errorf("more than the %d bytes expected arrived", n)
		}
		if !bytes.Equal(got[:k], wanted[:k]) {
			i := firstDifference(got[:k], wanted[:k])
			return fmt.Errorf("byte %d is %q, expected %q", at+int64(i), got[i], wanted[i])
		}
		at += int64(k)
		switch {
		case err == io.EOF && at == n:
			return nil
		case err == io.EOF:
			return fmt.Errorf("the end came after %d of %d bytes", at, n)
		case err != nil:
			return fmt.Errorf("after %d of %d bytes: %w", at, n, err)
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// content makes Content's bytes a block at a time.
type content struct {
	left  int64  // bytes not yet handed out
	group int64  // number of the next group of lines
	block []byte // memory of a block, its last three digits and newlines filled in
	rest  []byte // part of the block not yet handed out
}

// Read hands out what is left of the block, and makes the next one if nothing is.
func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if len(c.rest) == 0 {
		c.fill()
	}
	n := copy(p[:min(int64(len(p)), c.left)], c.rest)
	c.rest = c.rest[n:]
	c.left -= int64(n)
	return n, nil
}

// WriteTo writes block by block without another copy; io.Copy calls it.
func (c *content) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for c.left > 0 {
		if len(c.rest) == 0 {
			c.fill()
		}
		n, err := w.Write(c.rest[:min(int64(len(c.rest)), c.left)])
		c.rest = c.rest[n:]
		c.left -= int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// fill makes the next block, no longer than is needed.
func (c *content) fill() {
	if c.block == nil {
		size := min(blockBytes, (c.left+lineBytes-1)/lineBytes*lineBytes)
		c.block = make([]byte, size)
		for i := 0; i < len(c.block); i += lineBytes {
			decimal(c.block[i:i+15], int64(i/lineBytes%groupLines))
			c.block[i+15] = '\n'
		}
	}
	for start := 0; start < len(c.block); start += groupBytes {
		var high [12]byte // all but the last three digits are the same in a group
		decimal(high[:], c.group)
		end := min(start+groupBytes, len(c.block))
		for i := start; i < end; i += lineBytes {
			copy(c.block[i:], high[:])
		}
		c.group++
	}
	c.rest = c.block
}

// decimal fills p with the last len(p) digits of v.
func decimal(p []byte, v int64) {
	for i := len(p) - 1; i >= 0; i-- {
		p[i] = '0' + byte(v%10)
		v /= 10
	}
}
