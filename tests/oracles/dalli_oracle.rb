# frozen_string_literal: true

# Asks Dalli's ring which server is for a key; its servers say that they are alive. See oracle.py for question
# and answer.

require 'json'
require 'dalli'

# Instead of connecting.
module AlwaysAlive
  def alive?
    true
  end
end

def address(server)
  return "#{server['unix']}:#{server['weight']}" if server['unix']

  host = server['host'].include?(':') ? "[#{server['host']}]" : server['host']
  "#{host}:#{server['port']}:#{server['weight']}"
end

def owners(list, keys)
  client = Dalli::Client.new(list['servers'].map { |server| address(server) })
  ring = client.send(:ring)
  ring.servers.each { |server| server.extend(AlwaysAlive) }
  manager = client.instance_variable_get(:@key_manager)
  keys.map { |key| ring.servers.index(ring.server_for_key(manager.validate_key(key))) }
end

question = JSON.parse($stdin.read)
keys = question['keys'].map { |key| [key].pack('H*').force_encoding('UTF-8') }
puts JSON.generate(version: Dalli::VERSION, owners: question['cases'].map { |list| owners(list, keys) })
