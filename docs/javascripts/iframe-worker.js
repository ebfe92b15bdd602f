// The search runs in a worker. For a page opened from a file a browser starts none: there an iframe does its work.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inner = frame.contentWindow
      this.inner.answer = data => {
        const message = new MessageEvent("message", { data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      }
      this.inner.document.open()
      this.inner.document.write(`<!doctype html><script>
        window.postMessage = answer
        window.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
          const script = document.createElement("script")
          Object.assign(script, { src: url, onload: done, onerror: failed })
          document.body.append(script)
        })), Promise.resolve())
      <\/script><body><script src="${url}"><\/script>`)
      this.inner.document.close()
      this.ready = new Promise(done => frame.addEventListener("load", done, { once: true }))
    }

    // Each message is a task of its own, as it is in a worker: the index is there before the first question comes.
    postMessage(data) {
      this.ready.then(() => setTimeout(() => this.inner.dispatchEvent(new MessageEvent("message", { data }))))
    }

    terminate() {
      this.inner.frameElement.remove()
    }
  }
  window.Worker = window.IFrameWorker
}
