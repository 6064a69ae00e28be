package csource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxBytes bounds the size of a file; the originals have less than 6,000 bytes.
const MaxBytes = 64 << 10

// File is a C file, read and scanned.
type File struct {
	Name  string
	Lines []string // the last one counts, too, if no newline ends it
	Notes []string // what is shown in another way
	scan  Scan
}

// Load reads a file inside a directory. It follows no link out of it. An error says in a
// sentence what is wrong with the file.
func Load(dir *os.Root, name string) (*File, error) {
	info, err := dir.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s is not there", name)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", name, cause(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", name)
	case info.Size() > MaxBytes:
		return nil, fmt.Errorf("%s has %d bytes, more than %d: not one of the originals", name,
			info.Size(), MaxBytes)
	}
	src, err := dir.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", name, cause(err))
	}
	return Parse(name, string(src))
}

// cause leaves the path out of an error.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Parse takes in the text of a file.
func Parse(name, src string) (*File, error) {
	if strings.IndexByte(src, 0) >= 0 {
		return nil, fmt.Errorf("%s is no text: it holds NUL bytes", name)
	}
	if strings.TrimSpace(src) == "" {
		return nil, fmt.Errorf("%s is empty", name)
	}
	f := &File{Name: name}
	src = strings.TrimPrefix(src, "\ufeff")
	if !utf8.ValidString(src) {
		f.Notes = append(f.Notes, "it is not UTF-8; other bytes are shown as \ufffd")
		src = strings.ToValidUTF8(src, "\ufffd")
	}
	src = strings.ReplaceAll(src, "\r\n", "\n")
	f.scan = ScanCalls(src)
	f.Lines = strings.Split(strings.TrimSuffix(src, "\n"), "\n")
	return f, nil
}

var (
	numbered   = regexp.MustCompile(`^\s*(//|/\*)\s*\d+\s*[.):]`)
	reports    = regexp.MustCompile(`^\s*(printf|fprintf|puts|perror|fflush)\s*\(`)
	tests      = regexp.MustCompile(`^\s*if\s*\(`)
	opens      = regexp.MustCompile(`^\s*(((while|for)\b|\}?\s*else\b).*\{|\{|else\b[^;{]*)\s*$`)
	closing    = regexp.MustCompile(`^[\s}]*$`)
	anyComment = regexp.MustCompile(`^\s*(//|/\*|\*)`)
)

func (f *File) line(n int) string { return f.Lines[n-1] }

func (f *File) blank(n int) bool { return strings.TrimSpace(f.line(n)) == "" }

// trim moves up from a line over blank ones.
func (f *File) trim(n int) int {
	for n > 1 && f.blank(n) {
		n--
	}
	return n
}

// startOf is where the function around a call begins, with the comment above it.
func (f *File) startOf(c Found) int {
	start, ok := f.scan.FuncStart[c.Func]
	if !ok || start > c.Line {
		return c.Line
	}
	for start > 1 && anyComment.MatchString(f.line(start-1)) {
		start--
	}
	return start
}

// concludes says whether a line before call b deals with the outcome of the call
// before: it prints or tests it.
func (f *File) concludes(n int, b Found) bool {
	return n != b.Line && (reports.MatchString(f.line(n)) || tests.MatchString(f.line(n)))
}

// opensAround says whether a line does nothing but open a loop or a branch around call b.
func (f *File) opensAround(n int, b Found) bool {
	depth := f.scan.Depth[n-1]
	if strings.HasPrefix(strings.TrimSpace(f.line(n)), "}") {
		depth--
	}
	return opens.MatchString(f.line(n)) && depth < f.scan.Depth[b.Line-1]
}

// between is the line on which the step of call b begins, when call a of the same
// function is the one before: at a comment that numbers it; else at the first
// paragraph after a that does not conclude a; else at b itself.
func (f *File) between(a, b Found) int {
	cut := 0
	for n := b.Line; n > a.Line && cut == 0; n-- {
		if numbered.MatchString(f.line(n)) {
			cut = n
		}
	}
	for n := a.Line + 1; n < b.Line && cut == 0; n++ {
		if f.blank(n) && f.scan.Depth[n-1] <= max(a.Depth, b.Depth) && !f.blank(n+1) &&
			!f.concludes(n+1, b) {
			cut = n + 1
		}
	}
	if cut == 0 {
		cut = b.Line
		for cut-1 > a.Line && anyComment.MatchString(f.line(cut-1)) {
			cut--
		}
	}
	// What only closes blocks belongs to a; a loop or an else around b, to b.
	for cut < b.Line && closing.MatchString(f.line(cut)) {
		cut++
	}
	for n := cut - 1; n > a.Line && (f.blank(n) || f.opensAround(n, b)); n-- {
		if !f.blank(n) {
			cut = n
		}
	}
	return cut
}
