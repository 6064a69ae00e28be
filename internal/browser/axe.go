package browser

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe is axe-core, a checker of web pages, where npm puts it.
const axe = "scripts/express/node_modules/axe-core/axe.min.js"

// FindAxe returns the source of axe-core, a script that checks a page for what shuts people
// out. root is the repository.
func FindAxe(root string) (source string, err error) {
	file, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(axe)))
	if err != nil {
		return "", errors.New("axe-core is not there: run npm ci in scripts/express")
	}
	return string(file), nil
}

// Barriers has axe-core check the page that the tab shows. It returns what it calls serious or
// critical, a line each. It does not measure contrast, which takes seconds on pages of code:
// the tests do that themselves, on every page.
func Barriers(tab context.Context, source string) ([]string, error) {
	var found []string
	err := chromedp.Run(tab, chromedp.Evaluate(source+"\n;0", nil),
		chromedp.Evaluate(`axe.run({resultTypes: ["violations"],
			rules: {"color-contrast": {enabled: false}}}).then(r => r.violations
			.filter(v => v.impact === "serious" || v.impact === "critical")
			.flatMap(v => v.nodes.slice(0, 3).map(n => v.id + ": " + n.html.slice(0, 100))))`,
			&found, func(p *runtime.EvaluateParams) *runtime.EvaluateParams {
				return p.WithAwaitPromise(true)
			}))
	for i := range found {
		found[i] = strings.Join(strings.Fields(found[i]), " ")
	}
	return found, err
}
