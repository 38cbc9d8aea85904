// Search from disk: a browser refuses workers to pages that it opens as files, so the search runs in
// a hidden frame in place of one. The theme's offline plugin would fetch such a script from the web;
// it leaves that when a file of this name is given (mkdocs.yml, extra.polyfills).
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.ready = new Promise(resolve => {
        const insert = () => {
          document.body.append(frame)
          const inside = frame.contentWindow
          // What the worker posts goes to this object's listeners.
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = inside.document.createElement("script")
          script.src = url
          script.onload = () => resolve(inside)
          inside.document.body.append(script)
        }
        document.body ? insert() : addEventListener("DOMContentLoaded", insert)
      })
    }

    postMessage(data) {
      this.ready.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }
  }
}
