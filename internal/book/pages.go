package book

import (
	"io/fs"
	"strings"
)

// Pages lists the documents of a repository, named from its root with slashes:
// README.md, those of docs/, and every README.md in scripts/. folders are where
// it has looked.
func Pages(repository fs.FS) (pages, folders []string) {
	walk := func(dir string, want func(name string) bool) {
		_ = fs.WalkDir(repository, dir, func(p string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
			case d.IsDir() && d.Name() == "node_modules":
				return fs.SkipDir
			case d.IsDir():
				folders = append(folders, p)
			case d.Type().IsRegular() && want(d.Name()):
				pages = append(pages, p)
			}
			return nil
		})
	}
	isReadme := func(name string) bool { return name == "README.md" }
	walk("README.md", isReadme)
	walk("docs", func(name string) bool { return strings.HasSuffix(name, ".md") })
	walk("scripts", isReadme)
	return pages, folders
}
