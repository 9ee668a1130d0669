// Shows prices. Types of everything that the client gives; a bundler makes it a script of a page.
import { Client, ClientError, type Gap, type Message } from 'dev-websocket-client'

interface Price {
  symbol: string
  price: string
}

/** Follows prices until the signal says stop. Gives the cursor to go on at. */
export async function follow (url: string, signal: AbortSignal, show: (text: string) => void, cursor: string | null = null): Promise<string | null> {
  const client = new Client<Price>(url, { topics: ['prices'], cursor, last: 1, signal, token: async () => undefined })
  client.on('gap', (gap: Gap) => show(`missed ${gap.dropped ?? 'some'} ${gap.reason}`))
  client.on('state', ({ state, delay }) => show(delay === undefined ? state : `${state} ${delay} ms`))
  client.on('reply', (reply) => show(`${reply.message ?? ''} ${reply.new_topics?.join() ?? ''} ${reply.subscribed_topics.join()}`))
  client.on('error', (error: ClientError) => show(`${error.code} ${error.status ?? ''} ${error.fatal}`))
  const transfers = client.subscribe<{ quantity: string }>({ topics: ['action:Transfer'] })
  transfers.onMessage(({ data }) => show(data.quantity))
  try {
    const { seq }: { seq: number } = await transfers.reply
    show(`subscribed at ${seq}`)
    for await (const message of client) show(priceOf(message))
  } catch (error) {
    if (!(error instanceof ClientError) && !signal.aborted) throw error
  }
  return client.cursor
}

function priceOf ({ data, cursor }: Message<Price>): string {
  return `${data.symbol} ${data.price} ${cursor}`
}
