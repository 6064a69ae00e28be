package site

import (
	"fmt"
	"html"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	tagWithLink = regexp.MustCompile(`(?s)<([a-z0-9]+)\b[^>]*?\s(href|src|srcset)="([^"]*)"`)
	tagWithID   = regexp.MustCompile(`\s(?:id|name)="([^"]+)"`)
)

// checkLinks looks up every link of every page: its file and its anchor must be
// in the site. Nothing but a link to click on may lead to another host. Links that
// are reported already, as "PAGE LINK", are not reported twice.
func checkLinks(files map[string][]byte, reported map[string]bool) []string {
	ids := map[string]map[string]bool{}
	for name, body := range files {
		if strings.HasSuffix(name, ".html") {
			set := map[string]bool{}
			for _, m := range tagWithID.FindAllSubmatch(body, -1) {
				set[html.UnescapeString(string(m[1]))] = true
			}
			ids[name] = set
		}
	}
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		seen := map[string]bool{}
		for _, m := range tagWithLink.FindAllSubmatch(files[name], -1) {
			tag, target := string(m[1]), html.UnescapeString(string(m[3]))
			if seen[tag+target] || reported[name+" "+target] {
				continue
			}
			seen[tag+target] = true
			if err := checkLink(files, ids, name, tag, target); err != nil {
				problems = append(problems, fmt.Sprintf("%s: link %q: %v", name, target, err))
			}
		}
	}
	return problems
}

func checkLink(files map[string][]byte, ids map[string]map[string]bool, page, tag,
	target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return err
	case u.Scheme == "data":
		return nil
	case u.Scheme != "" || u.Host != "":
		if tag != "a" {
			return fmt.Errorf("loads from another host")
		}
		return nil
	}
	file := page
	if u.Path != "" {
		file = path.Join(path.Dir(page), u.Path)
	}
	if _, ok := files[file]; !ok {
		return fmt.Errorf("there is no %s", file)
	}
	if u.Fragment != "" && ids[file] != nil && !ids[file][u.Fragment] {
		return fmt.Errorf("%s has no %q", file, u.Fragment)
	}
	return nil
}
