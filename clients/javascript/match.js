/** Whether a frame is one that a subscription asked for: the server sends it once, whichever subscriptions chose it. */
export function matcherOf (selection) {
  const topics = new Set()
  const patterns = []
  for (const topic of selection.topics.keys()) {
    if (topic === '*') patterns.push(null)
    else if (topic.includes('*')) patterns.push(new RegExp(`^${topic.split('*').map(escaped).join('.*')}$`, 's'))
    else topics.add(topic)
  }
  for (const text of selection.match.keys()) patterns.push(expressionOf(text))
  const templates = [...selection.template.values()].map(({ item }) => typeof item === 'string' ? expressionOf(item.slice(1)) : item)
  const hasTopics = topics.size > 0 || patterns.length > 0
  return (frame) => {
    if (frame.type !== 'message' && frame.process === undefined) return frame.type === 'gap'
    const named = frame.topics ?? [`process:${frame.process}`, `from:${frame.process}`]
    const isTopic = !hasTopics || named.some((topic) => topics.has(topic)) ||
      patterns.some((pattern) => pattern === null || named.some((topic) => pattern.test(topic)))
    // The messages of a slot that is missing are not known: each template counts as matched.
    if (!isTopic || templates.length === 0 || frame.type === 'gap') return isTopic
    return templates.some((template) => template instanceof RegExp
      ? template.test(frame.path ?? frame.data?.path ?? '')
      : isLike(template, frame.data, frame))
  }
}

/** Each key of a template is in the message with an equal value, nested objects likewise. */
function isLike (template, data, frame) {
  return Object.entries(template).every(([key, wanted]) => {
    const found = taggedValue(data, key) ?? (frame === null ? undefined : nodeField(frame, key))
    if (wanted !== null && typeof wanted === 'object') return found !== null && typeof found === 'object' && isLike(wanted, found, null)
    return found !== undefined && String(found) === String(wanted)
  })
}

/** A key of a message without letter case, at the top or among the tags. */
function taggedValue (data, key) {
  if (data === null || typeof data !== 'object') return undefined
  const name = key.toLowerCase()
  for (const [other, value] of Object.entries(data)) if (other.toLowerCase() === name) return value
  for (const tags of [data.tags, data.Tags]) {
    if (Array.isArray(tags)) {
      const tag = tags.find((item) => String(item?.name).toLowerCase() === name)
      if (tag !== undefined) return tag.value
    } else if (tags) {
      const value = taggedValue({ ...tags, tags: undefined, Tags: undefined }, key)
      if (value !== undefined) return value
    }
  }
}

/** A field of the frame that the node itself knows. */
function nodeField (frame, key) {
  if (!['process', 'slot', 'hashpath', 'path', 'assignment', 'source', 'from'].includes(key)) return undefined
  const value = frame[key]
  return Array.isArray(value) && value.length === 1 ? value[0] : value
}

function escaped (text) {
  return text.replace(/[\\^$.|?+()[\]{}]/g, '\\$&')
}

/** The server's expressions are those of Rust; one that JavaScript cannot read chooses everything here. */
function expressionOf (text) {
  try {
    return new RegExp(text, 'u')
  } catch {
    return /(?:)/
  }
}
