// Browsers start no workers from files. A page that was opened from a disk searches in a hidden frame instead:
// the theme's search asks for a Worker, and knows this stand-in by the name IFrameWorker.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = `<script src="${url}"></script>`
      this.room = new Promise(resolve => {
        frame.onload = () => {
          const room = frame.contentWindow
          room.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          room.importScripts = async (...urls) => {
            for (const one of urls) await load(room.document, one)
          }
          resolve(room)
        }
      })
      document.body.append(frame)
    }

    async postMessage(data) {
      const room = await this.room
      room.dispatchEvent(new MessageEvent("message", { data }))
    }
  }
  window.Worker = window.IFrameWorker

  const load = (page, url) => new Promise((resolve, reject) => {
    const script = page.createElement("script")
    script.src = url
    script.onload = resolve
    script.onerror = reject
    page.head.append(script)
  })
}
